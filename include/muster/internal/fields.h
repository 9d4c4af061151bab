// The fields of a struct as a tuple of references: from MUSTER_FIELDS, or, for an aggregate of at
// most 16 fields without base classes, found by the compiler.
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>

namespace muster::internal {

template <typename T>
struct FieldsOf {};  // Makes MUSTER_FIELDS count for this very type, not for what derives from it.

template <typename T>
concept HasFieldsMacro = requires(T& value) {
  MusterFields(value, FieldsOf<T>());
};

// Converts to any base class of T: an aggregate whose first element can be made from it has a base.
template <typename T>
struct AnyBaseOf {
  template <typename Base>
  requires(std::is_base_of_v<Base, T> && !std::is_same_v<Base, T>) operator Base()
      const;  // NOLINT(google-explicit-constructor)
};

// How many fields T has; -1: more than 16, or not all can be made from {}. Each {} stands for one
// field, arrays included, so that no brace is elided.
template <typename T>
consteval int CountFields() {
  // clang-format off
  if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return -1;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 16;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 15;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 14;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 13;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 12;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 11;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 10;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}, {}}; }) return 9;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}, {}}; }) return 8;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}, {}}; }) return 7;
  else if constexpr (requires { T{{}, {}, {}, {}, {}, {}}; }) return 6;
  else if constexpr (requires { T{{}, {}, {}, {}, {}}; }) return 5;
  else if constexpr (requires { T{{}, {}, {}, {}}; }) return 4;
  else if constexpr (requires { T{{}, {}, {}}; }) return 3;
  else if constexpr (requires { T{{}, {}}; }) return 2;
  else if constexpr (requires { T{{}}; }) return 1;
  else if constexpr (requires { T{}; }) return 0;
  else return -1;
  // clang-format on
}

template <typename T>
consteval bool IsPlainAggregate() {
  if constexpr (!std::is_class_v<T> || !std::is_aggregate_v<T> || HasFieldsMacro<T>) {
    return false;
  } else if constexpr (requires { T{AnyBaseOf<T>()}; }) {
    return false;
  } else {
    return CountFields<T>() >= 0;
  }
}

template <typename T>
concept HasFields = HasFieldsMacro<T> || IsPlainAggregate<T>();

template <typename T>
constexpr auto TieFields(T& value) {
  if constexpr (HasFieldsMacro<T>) {
    return MusterFields(value, FieldsOf<T>());
  } else {
    constexpr int kCount = CountFields<T>();
    // clang-format off
    if constexpr (kCount == 0) { static_cast<void>(value); return std::tie(); }
    else if constexpr (kCount == 1) { auto& [a] = value; return std::tie(a); }
    else if constexpr (kCount == 2) { auto& [a, b] = value; return std::tie(a, b); }
    else if constexpr (kCount == 3) { auto& [a, b, c] = value; return std::tie(a, b, c); }
    else if constexpr (kCount == 4) { auto& [a, b, c, d] = value; return std::tie(a, b, c, d); }
    else if constexpr (kCount == 5) { auto& [a, b, c, d, e] = value; return std::tie(a, b, c, d, e); }
    else if constexpr (kCount == 6) { auto& [a, b, c, d, e, f] = value; return std::tie(a, b, c, d, e, f); }
    else if constexpr (kCount == 7) { auto& [a, b, c, d, e, f, g] = value; return std::tie(a, b, c, d, e, f, g); }
    else if constexpr (kCount == 8) { auto& [a, b, c, d, e, f, g, h] = value; return std::tie(a, b, c, d, e, f, g, h); }
    else if constexpr (kCount == 9) { auto& [a, b, c, d, e, f, g, h, i] = value; return std::tie(a, b, c, d, e, f, g, h, i); }
    else if constexpr (kCount == 10) { auto& [a, b, c, d, e, f, g, h, i, j] = value; return std::tie(a, b, c, d, e, f, g, h, i, j); }
    else if constexpr (kCount == 11) { auto& [a, b, c, d, e, f, g, h, i, j, k] = value; return std::tie(a, b, c, d, e, f, g, h, i, j, k); }
    else if constexpr (kCount == 12) { auto& [a, b, c, d, e, f, g, h, i, j, k, l] = value; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l); }
    else if constexpr (kCount == 13) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = value; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m); }
    else if constexpr (kCount == 14) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = value; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n); }
    else if constexpr (kCount == 15) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = value; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o); }
    else { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = value; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p); }
    // clang-format on
  }
}

}  // namespace muster::internal

#define MUSTER_PARENS_ ()
#define MUSTER_EXPAND_(...) MUSTER_EXPAND_3_(MUSTER_EXPAND_3_(MUSTER_EXPAND_3_(__VA_ARGS__)))
#define MUSTER_EXPAND_3_(...) MUSTER_EXPAND_2_(MUSTER_EXPAND_2_(MUSTER_EXPAND_2_(__VA_ARGS__)))
#define MUSTER_EXPAND_2_(...) MUSTER_EXPAND_1_(MUSTER_EXPAND_1_(MUSTER_EXPAND_1_(__VA_ARGS__)))
#define MUSTER_EXPAND_1_(...) __VA_ARGS__
#define MUSTER_FIELD_(field, ...) \
  muster_value.field __VA_OPT__(, MUSTER_FIELD_AGAIN_ MUSTER_PARENS_(__VA_ARGS__))
#define MUSTER_FIELD_AGAIN_() MUSTER_FIELD_

// MUSTER_FIELDS(Point, x, y); at namespace scope, beside a type with public members, lets it be an
// argument or a result. All fields that matter must be named (up to 27); reading starts from a
// default-made value.
#define MUSTER_FIELDS(Type, ...)                                                  \
  [[maybe_unused]] inline auto MusterFields([[maybe_unused]] Type& muster_value,  \
                                            ::muster::internal::FieldsOf<Type>) { \
    return ::std::tie(__VA_OPT__(MUSTER_EXPAND_(MUSTER_FIELD_(__VA_ARGS__))));    \
  }                                                                               \
  static_assert(true)
