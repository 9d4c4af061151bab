// From a function given as a template argument to what the library works with: an Invoker, a name,
// a registration, and the checks of its signature and of a call's arguments.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "muster/internal/runtime.h"
#include "muster/object_ref.h"
#include "muster/serialization.h"

// A refusal at compile time is one line that says what is wrong with which function and argument.
// clang prints the condition of a static_assert with its template arguments; g++ does not, but does
// for a deleted function.
#ifdef __clang__
#define MUSTER_RULE_(wrong, right, ...) \
  template <__VA_ARGS__>                \
  inline constexpr bool right = false
#define MUSTER_REFUSE_(wrong, right, words, ...) \
  static_assert(::muster::internal::right<__VA_ARGS__>, words)
#else
#define MUSTER_RULE_(wrong, right, ...) \
  template <__VA_ARGS__>                \
  void wrong() = delete
#define MUSTER_REFUSE_(wrong, right, words, ...) ::muster::internal::wrong<__VA_ARGS__>()
#endif

namespace muster::internal {

MUSTER_RULE_(NeedsFunctionOrCapturelessLambdaWithoutAuto, IsFunctionOrCapturelessLambdaWithoutAuto,
             auto function);
MUSTER_RULE_(ParameterCannotBePointerOrMutableReference, ParameterIsValueOrConstReference,
             auto function, int argument, typename Type);
MUSTER_RULE_(ArgumentCannotBeSentGiveItsTypeMUSTER_FIELDS, ArgumentCanBeSent, auto function,
             int argument, typename Type);
MUSTER_RULE_(ResultCannotBeSentGiveItsTypeMUSTER_FIELDS, ResultCanBeSent, auto function,
             typename Type);
MUSTER_RULE_(WrongNumberOfArguments, ArgumentsAreAsManyAsParameters, auto function, int given,
             int expected);
MUSTER_RULE_(ArgumentHasWrongType, ArgumentHasRightType, auto function, int argument,
             typename Given, typename Expected);

// --- Signatures ---

template <typename T>
struct Signature {
  static constexpr bool kKnown = false;
  using Result = void;
};
template <typename R, typename... P>
struct Signature<R (*)(P...)> {
  static constexpr bool kKnown = true;
  using Result = R;
  using Parameters = TypeList<P...>;
};
template <typename R, typename... P>
struct Signature<R (*)(P...) noexcept> : Signature<R (*)(P...)> {};
template <typename C, typename R, typename... P>
struct Signature<R (C::*)(P...) const> : Signature<R (*)(P...)> {};
template <typename C, typename R, typename... P>
struct Signature<R (C::*)(P...) const noexcept> : Signature<R (*)(P...)> {};
template <typename T>
requires requires { &T::operator(); }
struct Signature<T> : Signature<decltype(&T::operator())> {};

template <auto function>
using SignatureOf = Signature<std::remove_const_t<decltype(function)>>;

// What the caller gets: a Status becomes Get's status, a StatusOr<T> becomes T or Get's status.
template <typename R>
struct ResultOf {
  using Type = std::remove_cvref_t<R>;
};
template <>
struct ResultOf<absl::Status> {
  using Type = void;
};
template <typename T>
struct ResultOf<absl::StatusOr<T>> {
  using Type = T;
};
template <auto function>
using Result = typename ResultOf<std::remove_cvref_t<typename SignatureOf<function>::Result>>::Type;

// What travels for a parameter. A view is sent as what it views; the text lives as long as the
// call.
template <typename Parameter>
using Held = std::conditional_t<std::is_same_v<std::remove_cvref_t<Parameter>, std::string_view>,
                                std::string, std::remove_cvref_t<Parameter>>;

template <typename Parameter>
inline constexpr bool kValueOrConstReference =
    !std::is_pointer_v<std::remove_cvref_t<Parameter>> &&
    !(std::is_lvalue_reference_v<Parameter> &&
      !std::is_const_v<std::remove_reference_t<Parameter>>);

// A ref must be of the very type; a value must convert as in a plain call.
template <typename Argument, typename Parameter>
consteval bool Accepts() {
  if constexpr (kIsObjectRef<std::remove_cvref_t<Argument>>) {
    return std::is_same_v<typename std::remove_cvref_t<Argument>::value_type, Held<Parameter>>;
  } else {
    return std::is_convertible_v<Argument, std::remove_cvref_t<Parameter>> &&
           !std::is_null_pointer_v<std::remove_cvref_t<Argument>>;
  }
}

// Where the first true stands, counted from 1; 0: nowhere.
template <size_t kSize>
consteval int FirstTrue(const bool (&values)[kSize]) {
  for (size_t i = 1; i < kSize; ++i) {
    if (values[i]) return static_cast<int>(i);
  }
  return 0;
}
template <int position, typename... T>
using At = std::tuple_element_t<static_cast<size_t>(position - 1), std::tuple<T...>>;

template <auto function, typename... Parameter>
consteval bool CheckSignature(TypeList<Parameter...>) {
  using R = Result<function>;
  constexpr int kRefused = FirstTrue({false, !kValueOrConstReference<Parameter>...});
  constexpr int kUnsendable =
      FirstTrue({false, (kValueOrConstReference<Parameter> && !IsSendable<Held<Parameter>>)...});
  if constexpr (kRefused != 0) {
    using Type = At<kRefused, Parameter...>;
    MUSTER_REFUSE_(
        ParameterCannotBePointerOrMutableReference, ParameterIsValueOrConstReference,
        "muster: this parameter of the function is a pointer or a mutable reference, which means "
        "nothing in another process: take a value or a const reference",
        function, kRefused, Type);
    return false;
  } else if constexpr (kUnsendable != 0) {
    using Type = Held<At<kUnsendable, Parameter...>>;
    MUSTER_REFUSE_(ArgumentCannotBeSentGiveItsTypeMUSTER_FIELDS, ArgumentCanBeSent,
                   "muster: this argument of the function cannot be sent: give its type "
                   "MUSTER_FIELDS(Type, its fields)",
                   function, kUnsendable, Type);
    return false;
  } else if constexpr (!std::is_void_v<R> && !IsSendable<R>) {
    MUSTER_REFUSE_(ResultCannotBeSentGiveItsTypeMUSTER_FIELDS, ResultCanBeSent,
                   "muster: the result of the function cannot be sent: give its type "
                   "MUSTER_FIELDS(Type, its fields)",
                   function, R);
    return false;
  } else {
    return true;
  }
}

template <auto function, typename... Argument, typename... Parameter>
consteval bool CheckArguments(TypeList<Argument...>, TypeList<Parameter...>) {
  constexpr int kGiven = sizeof...(Argument);
  constexpr int kExpected = sizeof...(Parameter);
  if constexpr (kGiven != kExpected) {
    MUSTER_REFUSE_(
        WrongNumberOfArguments, ArgumentsAreAsManyAsParameters,
        "muster: Remote() got another number of arguments (the second number is expected)",
        function, kGiven, kExpected);
    return false;
  } else {
    constexpr int kWrong = FirstTrue({false, !Accepts<Argument, Parameter>()...});
    if constexpr (kWrong != 0) {
      using Given = std::remove_cvref_t<At<kWrong, Argument...>>;
      using Expected = Held<At<kWrong, Parameter...>>;
      MUSTER_REFUSE_(
          ArgumentHasWrongType, ArgumentHasRightType,
          "muster: this argument of Remote() has another type than the function's parameter",
          function, kWrong, Given, Expected);
      return false;
    } else {
      return true;
    }
  }
}

// Whether the call is right; where it is not, compiling fails with one line.
template <auto function, typename... Argument>
consteval bool CheckCall() {
  if constexpr (!SignatureOf<function>::kKnown) {
    MUSTER_REFUSE_(NeedsFunctionOrCapturelessLambdaWithoutAuto,
                   IsFunctionOrCapturelessLambdaWithoutAuto,
                   "muster: what runs remotely is a function or a captureless lambda, without auto "
                   "parameters",
                   function);
    return false;
  } else {
    using Parameters = typename SignatureOf<function>::Parameters;
    if constexpr (!CheckSignature<function>(Parameters())) {
      return false;
    } else {
      return CheckArguments<function>(TypeList<Argument...>(), Parameters());
    }
  }
}

// --- Names ---

template <auto function>
constexpr std::string_view PrettyFunction() {
  return __PRETTY_FUNCTION__;
}
template <typename T>
constexpr std::string_view PrettyType() {
  return __PRETTY_FUNCTION__;
}

// What the compiler calls the template argument: after the first "= ", to the end of the bracket
// or, in g++, to the semicolon.
constexpr std::string_view TemplateArgument(std::string_view pretty) {
  pretty.remove_prefix(pretty.find("= ") + 2);
  pretty.remove_suffix(1);
  if (const size_t alias = pretty.find("; std::string_view ="); alias != pretty.npos) {
    pretty = pretty.substr(0, alias);
  }
  return pretty;
}

// "&a::b::Score" gives "Score", "a::Load<a::Row>" gives "Load<a::Row>".
constexpr std::string_view LastComponent(std::string_view name) {
  size_t begin = name.starts_with('&') ? 1 : 0;
  int depth = 0;
  for (size_t i = begin; i < name.size(); ++i) {
    const char c = name[i];
    if (c == '<' || c == '(' || c == '{') ++depth;
    if (c == '>' || c == ')' || c == '}') --depth;
    if (depth == 0 && c == ':') begin = i + 1;
  }
  return name.substr(begin);
}

// For people; the registration's key is what tells functions apart.
template <auto function>
constexpr std::string_view FunctionName() {
  if constexpr (std::is_class_v<decltype(function)>) {
    constexpr std::string_view kType =
        TemplateArgument(PrettyType<std::remove_const_t<decltype(function)>>());
    return kType.find("lambda") != kType.npos ? "lambda" : LastComponent(kType);
  } else {
    return LastComponent(TemplateArgument(PrettyFunction<function>()));
  }
}

// --- Running ---

inline absl::Status Named(std::string_view function, const absl::Status& status) {
  std::string message(function);
  message.append(": ").append(status.message().data(), status.message().size());
  absl::Status named(status.code(), message);
  status.ForEachPayload([&named](absl::string_view url, const absl::Cord& payload) {
    named.SetPayload(url, payload);
  });
  return named;
}

template <typename T>
absl::Status ReadArgument(std::string_view function, size_t position, std::string_view bytes,
                          T& value) {
  Reader in(bytes);
  if (Unpack(in, value) && in.Finish()) return absl::OkStatus();
  return Named(function, absl::InvalidArgumentError(
                             "argument " + std::to_string(position) +
                             " cannot be read: " + std::string(in.status().message())));
}

template <typename Parameter>
decltype(auto) Pass(Held<Parameter>& value) {
  if constexpr (std::is_same_v<std::remove_cvref_t<Parameter>, std::string_view>) {
    return std::string_view(value);
  } else if constexpr (std::is_lvalue_reference_v<Parameter>) {
    return static_cast<const Held<Parameter>&>(value);
  } else {
    return std::move(value);
  }
}

template <auto function, typename... Parameter, size_t... kIndex>
absl::Status InvokeWith(std::span<const std::string_view> arguments, std::string& result,
                        TypeList<Parameter...>, std::index_sequence<kIndex...>) {
  constexpr std::string_view kName = FunctionName<function>();
  if (arguments.size() != sizeof...(Parameter)) {
    return Named(kName, absl::InvalidArgumentError(
                            "called with " + std::to_string(arguments.size()) +
                            " arguments instead of " + std::to_string(sizeof...(Parameter))));
  }
  [[maybe_unused]] std::tuple<Held<Parameter>...> values;
  absl::Status status;
  static_cast<void>(
      ((status = ReadArgument(kName, kIndex + 1, arguments[kIndex], std::get<kIndex>(values)),
        status.ok()) &&
       ...));
  if (!status.ok()) return status;

  using R = std::remove_cvref_t<typename SignatureOf<function>::Result>;
  if constexpr (std::is_void_v<R>) {
    function(Pass<Parameter>(std::get<kIndex>(values))...);
  } else if constexpr (std::is_same_v<R, absl::Status>) {
    status = function(Pass<Parameter>(std::get<kIndex>(values))...);
    if (!status.ok()) return Named(kName, status);
  } else if constexpr (!std::is_same_v<R, Result<function>>) {
    const R returned = function(Pass<Parameter>(std::get<kIndex>(values))...);
    if (!returned.ok()) return Named(kName, returned.status());
    Pack(result, *returned);
  } else {
    Pack<R>(result, function(Pass<Parameter>(std::get<kIndex>(values))...));
  }
  return absl::OkStatus();
}

template <auto function>
absl::Status Invoke(std::span<const std::string_view> arguments, std::string& result) {
  return []<typename... P>(std::span<const std::string_view> in, std::string& out,
                           TypeList<P...> parameters) {
    return InvokeWith<function>(in, out, parameters, std::index_sequence_for<P...>());
  }(arguments, result, typename SignatureOf<function>::Parameters());
}

// Naming a function in Task<> or Group<> makes this static member, and so registers it when the
// program is loaded: in the driver and, as it is the same program, in every executor.
template <auto function>
struct Registration {
  static inline const uint64_t key =
      RegisterFunction(&Invoke<function>, std::string(FunctionName<function>()));
};

// --- Calling ---

// False where the argument is a ref that was moved from.
template <typename Parameter, typename Value>
bool AddArgument(Call& call, Value&& value) {
  if constexpr (kIsObjectRef<std::remove_cvref_t<Value>>) {
    const ObjectHandle& handle = RefAccess::Handle(value);
    call.arguments.push_back({.value = {}, .ref = handle});
    return handle != nullptr;
  } else {
    call.arguments.push_back({.value = {}, .ref = nullptr});
    std::string& bytes = call.arguments.back().value;
    if constexpr (std::is_same_v<std::remove_cvref_t<Value>, Held<Parameter>>) {
      Pack<Held<Parameter>>(bytes, value);
    } else {
      Pack<Held<Parameter>>(
          bytes,
          Held<Parameter>(static_cast<std::remove_cvref_t<Parameter>>(std::forward<Value>(value))));
    }
    return true;
  }
}

// Builds the call and gives it to `submit`, which makes an ObjectHandle of it.
template <auto function, typename Submit, typename... Parameter, typename... Value>
ObjectHandle CallWith(TypeList<Parameter...>, Submit submit, Value&&... values) {
  // Taking its address is what makes the registration exist.
  [[maybe_unused]] const volatile uint64_t* const registered = &Registration<function>::key;
  Call call = {
      .invoker = &Invoke<function>, .name = std::string(FunctionName<function>()), .arguments = {}};
  call.arguments.reserve(sizeof...(Value));
  if (!(AddArgument<Parameter>(call, std::forward<Value>(values)) && ...)) {
    absl::Status status =
        Named(call.name,
              absl::FailedPreconditionError("argument " + std::to_string(call.arguments.size()) +
                                            " is an ObjectRef that was moved from"));
    return FailedObject(std::move(call.name), std::move(status));
  }
  return submit(std::move(call));
}

}  // namespace muster::internal
