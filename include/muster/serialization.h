// Values as bytes, in MessagePack. What can be sent: numbers, bool, enums, std::string, vector,
// deque, list, array, map, unordered_map, set, unordered_set, optional, variant, pair, tuple,
// monostate, chrono durations and time points, absl::Duration and absl::Time, plain structs of at
// most 16 such fields (without base classes), and types with MUSTER_FIELDS. Vectors and arrays of
// numbers are one blob, copied as a whole.
//
// Errors: Deserialize() gives kInvalidArgument for bytes that Serialize() of that type did not
// make, with the
//   place; it never crashes, throws or allocates out of proportion to the bytes that are there.
// Thread-safety: no state.
#pragma once

#include <array>
#include <chrono>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/internal/fields.h"
#include "muster/internal/msgpack.h"
#include "muster/internal/refuse.h"

namespace muster {
namespace internal {

template <typename... T>
struct TypeList {};

// Codec<T> has Write, Read and Parts (the types it is made of) for every type that has a form of
// its own.
template <typename T>
struct Codec {};

template <typename T>
void Pack(std::string& out, const T& value);
template <typename T>
bool Unpack(Reader& in, T& value);

template <typename T>
concept Number = std::is_arithmetic_v<T> && !std::is_same_v<T, long double>;
// Goes into blobs: the bytes are the value, and every pattern of bytes is one.
template <typename T>
concept BlobElement = (Number<T> && !std::is_same_v<T, bool>) || std::is_same_v<T, std::byte>;

template <typename T, typename... Seen>
consteval bool Sendable();
template <typename... Seen, typename... Parts>
consteval bool SendableParts(TypeList<Parts...>*) {
  return (Sendable<Parts, Seen...>() && ...);
}
template <typename... Seen, typename... Fields>
consteval bool SendableFields(std::tuple<Fields&...>*) {
  return (Sendable<Fields, Seen...>() && ...);
}

// `Seen` are the structs round this one, so that a recursive type ends here.
template <typename T, typename... Seen>
consteval bool Sendable() {
  if constexpr (std::is_const_v<T>) {
    return false;  // Could not be read back.
  } else if constexpr (Number<T> || std::is_enum_v<T>) {
    return true;
  } else if constexpr (requires { typename Codec<T>::Parts; }) {
    return SendableParts<Seen...>(static_cast<typename Codec<T>::Parts*>(nullptr));
  } else if constexpr ((std::is_same_v<T, Seen> || ...)) {
    return true;
  } else if constexpr (HasFields<T>) {
    if constexpr (std::is_default_constructible_v<T> && std::is_move_constructible_v<T>) {
      return SendableFields<Seen..., T>(
          static_cast<decltype(TieFields(std::declval<T&>()))*>(nullptr));
    } else {
      return false;
    }
  } else {
    return false;
  }
}

template <typename T>
concept IsSendable = std::is_same_v<T, std::remove_cvref_t<T>> && Sendable<T>();

template <>
struct Codec<std::string> {
  using Parts = TypeList<>;
  static void Write(std::string& out, const std::string& value) {
    WriteBytes(out, BytesKind::kString, value.data(), value.size());
  }
  static bool Read(Reader& in, std::string& value) {
    if (!in.NextIsArray()) {
      std::string_view part;
      if (!in.ReadOnePart(BytesKind::kString, part)) return false;
      value.assign(part);
      return true;
    }
    return in.ReadBytes(BytesKind::kString, [&value](size_t size, char*& to) {
      value.resize(size);
      to = value.data();
      return true;
    });
  }
};

// Containers that grow at their end.
template <typename Container>
struct SequenceCodec {
  using Element = typename Container::value_type;
  using Parts = TypeList<Element>;
  static void Write(std::string& out, const Container& value) {
    WriteArrayHeader(out, value.size());
    for (const auto& element : value) Pack<Element>(out, element);
  }
  static bool Read(Reader& in, Container& value) {
    size_t size = 0;
    if (!in.ReadArrayHeader(size)) return false;
    value.clear();
    for (size_t i = 0; i < size; ++i) {  // Grows with what is really there, whatever `size` says.
      Element element{};
      if (!Unpack(in, element)) return false;
      value.insert(value.end(), std::move(element));
    }
    return true;
  }
};
template <typename T>
struct Codec<std::vector<T>> : SequenceCodec<std::vector<T>> {};
template <typename T>
struct Codec<std::deque<T>> : SequenceCodec<std::deque<T>> {};
template <typename T>
struct Codec<std::list<T>> : SequenceCodec<std::list<T>> {};
template <typename T>
struct Codec<std::set<T>> : SequenceCodec<std::set<T>> {};
template <typename T>
struct Codec<std::unordered_set<T>> : SequenceCodec<std::unordered_set<T>> {};

template <BlobElement T>
struct Codec<std::vector<T>> {
  using Parts = TypeList<>;
  static void Write(std::string& out, const std::vector<T>& value) {
    WriteBytes(out, BytesKind::kBinary, value.data(), value.size() * sizeof(T));
  }
  static bool Read(Reader& in, std::vector<T>& value) {
    return in.ReadBytes(BytesKind::kBinary, [&value](size_t size, char*& to) {
      if (size % sizeof(T) != 0) return false;
      value.resize(size / sizeof(T));
      to = reinterpret_cast<char*>(value.data());
      return true;
    });
  }
};

// Arrays, std:: and those of C.
template <typename Array, typename T, size_t kSize>
struct ArrayCodec {
  using Parts = TypeList<T>;
  static void Write(std::string& out, const Array& value) {
    if constexpr (BlobElement<T> && kSize > 0) {
      WriteBytes(out, BytesKind::kBinary, &value[0], kSize * sizeof(T));
    } else {
      WriteArrayHeader(out, kSize);
      for (const T& element : value) Pack(out, element);
    }
  }
  static bool Read(Reader& in, Array& value) {
    if constexpr (BlobElement<T> && kSize > 0) {
      return in.ReadBytes(BytesKind::kBinary, [&value](size_t size, char*& to) {
        to = reinterpret_cast<char*>(&value[0]);
        return size == kSize * sizeof(T);
      });
    } else {
      if (!in.ReadArrayOf(kSize)) return false;
      for (T& element : value) {
        if (!Unpack(in, element)) return false;
      }
      return true;
    }
  }
};
template <typename T, size_t kSize>
struct Codec<std::array<T, kSize>> : ArrayCodec<std::array<T, kSize>, T, kSize> {};
template <typename T, size_t kSize>
struct Codec<T[kSize]> : ArrayCodec<T[kSize], T, kSize> {};

template <typename Map>
struct MapCodec {
  using Key = typename Map::key_type;
  using Mapped = typename Map::mapped_type;
  using Parts = TypeList<Key, Mapped>;
  static void Write(std::string& out, const Map& value) {
    WriteMapHeader(out, value.size());
    for (const auto& [key, mapped] : value) {
      Pack<Key>(out, key);
      Pack<Mapped>(out, mapped);
    }
  }
  static bool Read(Reader& in, Map& value) {
    size_t size = 0;
    if (!in.ReadMapHeader(size)) return false;
    value.clear();
    for (size_t i = 0; i < size; ++i) {
      Key key{};
      Mapped mapped{};
      if (!Unpack(in, key) || !Unpack(in, mapped)) return false;
      value.emplace_hint(value.end(), std::move(key), std::move(mapped));
    }
    return true;
  }
};
template <typename Key, typename T>
struct Codec<std::map<Key, T>> : MapCodec<std::map<Key, T>> {};
template <typename Key, typename T>
struct Codec<std::unordered_map<Key, T>> : MapCodec<std::unordered_map<Key, T>> {};

template <typename Tuple, typename... T>
struct TupleCodec {
  using Parts = TypeList<T...>;
  static void Write(std::string& out, const Tuple& value) {
    WriteArrayHeader(out, sizeof...(T));
    std::apply([&](const T&... part) { (Pack(out, part), ...); }, value);
  }
  static bool Read(Reader& in, Tuple& value) {
    return in.ReadArrayOf(sizeof...(T)) &&
           std::apply([&](T&... part) { return (Unpack(in, part) && ...); }, value);
  }
};
template <typename... T>
struct Codec<std::tuple<T...>> : TupleCodec<std::tuple<T...>, T...> {};
template <typename A, typename B>
struct Codec<std::pair<A, B>> : TupleCodec<std::pair<A, B>, A, B> {};

// An array of no or one value, so that an optional in an optional keeps its meaning.
template <typename T>
struct Codec<std::optional<T>> {
  using Parts = TypeList<T>;
  static void Write(std::string& out, const std::optional<T>& value) {
    WriteArrayHeader(out, value.has_value() ? 1 : 0);
    if (value.has_value()) Pack(out, *value);
  }
  static bool Read(Reader& in, std::optional<T>& value) {
    size_t size = 0;
    if (!in.ReadArrayHeader(size)) return false;
    if (size > 1) return in.Fail("at most one value");
    value.reset();
    return size == 0 || Unpack(in, value.emplace());
  }
};

template <>
struct Codec<std::monostate> {
  using Parts = TypeList<>;
  static void Write(std::string& out, std::monostate) { WriteNil(out); }
  static bool Read(Reader& in, std::monostate&) { return in.ReadNil(); }
};

// The index and the value. A variant that lost its value in an exception is sent as nothing that
// can be read.
template <typename... T>
struct Codec<std::variant<T...>> {
  using Parts = TypeList<T...>;
  static void Write(std::string& out, const std::variant<T...>& value) {
    WriteArrayHeader(out, 2);
    WriteUnsigned(out, value.index());
    if (value.valueless_by_exception()) return WriteNil(out);
    std::visit([&out](const auto& held) { Pack(out, held); }, value);
  }
  static bool Read(Reader& in, std::variant<T...>& value) {
    size_t index = 0;
    if (!in.ReadArrayOf(2) || !in.ReadInteger(index)) return false;
    if (index >= sizeof...(T)) return in.Fail("the index of an alternative");
    return ReadAt(in, index, value, std::index_sequence_for<T...>());
  }

 private:
  template <size_t... kIndex>
  static bool ReadAt(Reader& in, size_t index, std::variant<T...>& value,
                     std::index_sequence<kIndex...>) {
    return ((kIndex == index && Unpack(in, value.template emplace<kIndex>())) || ...);
  }
};

template <typename Rep, typename Period>
struct Codec<std::chrono::duration<Rep, Period>> {
  using Parts = TypeList<Rep>;
  static void Write(std::string& out, const std::chrono::duration<Rep, Period>& value) {
    Pack<Rep>(out, value.count());
  }
  static bool Read(Reader& in, std::chrono::duration<Rep, Period>& value) {
    Rep count{};
    if (!Unpack(in, count)) return false;
    value = std::chrono::duration<Rep, Period>(count);
    return true;
  }
};
template <typename Clock, typename Duration>
struct Codec<std::chrono::time_point<Clock, Duration>> {
  using Parts = TypeList<Duration>;
  static void Write(std::string& out, const std::chrono::time_point<Clock, Duration>& value) {
    Pack(out, value.time_since_epoch());
  }
  static bool Read(Reader& in, std::chrono::time_point<Clock, Duration>& value) {
    Duration duration{};
    if (!Unpack(in, duration)) return false;
    value = std::chrono::time_point<Clock, Duration>(duration);
    return true;
  }
};

// Whole seconds (towards zero) and the rest in quarters of a nanosecond, absl's resolution. The
// infinite ones have a rest of their own.
template <>
struct Codec<absl::Duration> {
  using Parts = TypeList<>;
  static constexpr int64_t kInfinite = std::numeric_limits<int64_t>::max();
  static void Write(std::string& out, absl::Duration value) {
    absl::Duration rest;
    const int64_t seconds = absl::IDivDuration(value, absl::Seconds(1), &rest);
    const bool infinite = value == absl::InfiniteDuration() || value == -absl::InfiniteDuration();
    WriteArrayHeader(out, 2);
    WriteSigned(out, seconds);
    WriteSigned(out,
                infinite ? kInfinite : absl::IDivDuration(rest, absl::Nanoseconds(1) / 4, &rest));
  }
  static bool Read(Reader& in, absl::Duration& value) {
    int64_t seconds = 0;
    int64_t quarters = 0;
    if (!in.ReadArrayOf(2) || !in.ReadInteger(seconds) || !in.ReadInteger(quarters)) return false;
    if (quarters == kInfinite) {
      value = seconds < 0 ? -absl::InfiniteDuration() : absl::InfiniteDuration();
      return true;
    }
    if (quarters <= -4'000'000'000 || quarters >= 4'000'000'000)
      return in.Fail("a part of a second");
    value = absl::Seconds(seconds) + quarters * (absl::Nanoseconds(1) / 4);
    return true;
  }
};
template <>
struct Codec<absl::Time> {
  using Parts = TypeList<>;
  static void Write(std::string& out, absl::Time value) {
    Codec<absl::Duration>::Write(out, value - absl::UnixEpoch());
  }
  static bool Read(Reader& in, absl::Time& value) {
    absl::Duration since;
    if (!Codec<absl::Duration>::Read(in, since)) return false;
    value = absl::UnixEpoch() + since;
    return true;
  }
};

template <typename T>
void Pack(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    WriteBool(out, value);
  } else if constexpr (std::is_same_v<T, float>) {
    WriteFloat(out, value);
  } else if constexpr (std::is_same_v<T, double>) {
    WriteDouble(out, value);
  } else if constexpr (std::is_enum_v<T>) {
    Pack(out, static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (std::is_integral_v<T>) {
    if constexpr (std::is_signed_v<T>) {
      WriteSigned(out, value);
    } else {
      WriteUnsigned(out, value);
    }
  } else if constexpr (requires { typename Codec<T>::Parts; }) {
    Codec<T>::Write(out, value);
  } else {
    // The tuple is of references for reading into; nothing is changed through it here.
    const auto fields = TieFields(const_cast<T&>(value));
    WriteArrayHeader(out, std::tuple_size_v<decltype(fields)>);
    std::apply([&](const auto&... field) { (Pack(out, field), ...); }, fields);
  }
}

template <typename T>
bool Unpack(Reader& in, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return in.ReadBool(value);
  } else if constexpr (std::is_same_v<T, float>) {
    return in.ReadFloat(value);
  } else if constexpr (std::is_same_v<T, double>) {
    return in.ReadDouble(value);
  } else if constexpr (std::is_enum_v<T>) {
    std::underlying_type_t<T> number{};
    if (!Unpack(in, number)) return false;
    value = static_cast<T>(number);
    return true;
  } else if constexpr (std::is_integral_v<T>) {
    return in.ReadInteger(value);
  } else if constexpr (requires { typename Codec<T>::Parts; }) {
    return Codec<T>::Read(in, value);
  } else {
    auto fields = TieFields(value);
    if (!in.Enter() || !in.ReadArrayOf(std::tuple_size_v<decltype(fields)>)) return false;
    const bool read =
        std::apply([&](auto&... field) { return (Unpack(in, field) && ...); }, fields);
    in.Leave();
    return read;
  }
}

MUSTER_RULE_(ValueCannotBeSent_GiveItsType_MUSTER_FIELDS, ValueCanBeSent, typename Type);

template <typename T>
void RequireSendable() {
  if constexpr (!IsSendable<T>) {
    MUSTER_REFUSE_(
        ValueCannotBeSent_GiveItsType_MUSTER_FIELDS, ValueCanBeSent,
        "muster: this value cannot be sent: give its type MUSTER_FIELDS(Type, its fields)", T);
  }
}

}  // namespace internal

template <typename T>
std::string Serialize(const T& value) {
  internal::RequireSendable<T>();
  std::string bytes;
  if constexpr (internal::IsSendable<T>) internal::Pack(bytes, value);
  return bytes;
}

template <typename T>
absl::StatusOr<T> Deserialize(std::string_view bytes) {
  internal::RequireSendable<T>();
  if constexpr (internal::IsSendable<T>) {
    internal::Reader in(bytes);
    T value{};
    if (!internal::Unpack(in, value) || !in.Finish()) return in.status();
    return value;
  } else {
    return absl::InternalError("refused");
  }
}

}  // namespace muster
