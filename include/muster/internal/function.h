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
#include "muster/internal/refuse.h"
#include "muster/internal/runtime.h"
#include "muster/object_ref.h"
#include "muster/serialization.h"

namespace muster::internal {

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

template <typename Parameter>
inline constexpr bool kSendableParameter = IsSendable<Held<Parameter>>;

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

// --- Is the call right? ---

enum class Fault { kNone, kFunction, kParameter, kUnsendable, kResult, kCount, kType };
struct Verdict {
  Fault fault = Fault::kNone;
  int position = 0;  // Of the parameter, from 1.
};

template <auto function, typename... Argument, typename... Parameter>
consteval Verdict Judge(TypeList<Argument...>, TypeList<Parameter...>) {
  constexpr int kPointer = FirstTrue({false, !kValueOrConstReference<Parameter>...});
  if constexpr (kPointer != 0) return {Fault::kParameter, kPointer};
  constexpr int kUnsendable = FirstTrue({false, !kSendableParameter<Parameter>...});
  if constexpr (kUnsendable != 0) return {Fault::kUnsendable, kUnsendable};
  if constexpr (!std::is_void_v<Result<function>> && !IsSendable<Result<function>>) {
    return {Fault::kResult, 0};
  } else if constexpr (sizeof...(Argument) != sizeof...(Parameter)) {
    return {Fault::kCount, 0};
  } else {
    constexpr int kWrong = FirstTrue({false, !Accepts<Argument, Parameter>()...});
    return kWrong == 0 ? Verdict{} : Verdict{Fault::kType, kWrong};
  }
}

template <auto function, typename... Argument>
consteval Verdict Judge() {
  if constexpr (SignatureOf<function>::kKnown) {
    return Judge<function>(TypeList<Argument...>(), typename SignatureOf<function>::Parameters());
  } else {
    return {Fault::kFunction, 0};
  }
}

MUSTER_RULE_(NeedsAFunctionOrACapturelessLambda_WithoutAuto,
             IsAFunctionOrACapturelessLambda_WithoutAuto, auto function);
MUSTER_RULE_(ParameterIsPointerOrMutableReference_TakeAValueOrConstReference,
             ParameterIsValueOrConstReference, auto function, int argument, typename Type);
MUSTER_RULE_(ArgumentCannotBeSent_GiveItsType_MUSTER_FIELDS, ArgumentCanBeSent, auto function,
             int argument, typename Type);
MUSTER_RULE_(ResultCannotBeSent_GiveItsType_MUSTER_FIELDS, ResultCanBeSent, auto function,
             typename Type);
MUSTER_RULE_(WrongNumberOfArguments, RightNumberOfArguments, auto function, int given,
             int expected);
MUSTER_RULE_(ArgumentHasWrongType, ArgumentHasRightType, auto function, int argument,
             typename Given, typename Expected);

// Fails to compile.
template <auto function, Verdict verdict, typename... Argument, typename... Parameter>
void RefuseCall(TypeList<Argument...>, TypeList<Parameter...>) {
  constexpr int kPosition = verdict.position;
  if constexpr (verdict.fault == Fault::kParameter) {
    using Type = At<kPosition, Parameter...>;
    MUSTER_REFUSE_(ParameterIsPointerOrMutableReference_TakeAValueOrConstReference,
                   ParameterIsValueOrConstReference,
                   "muster: this parameter of the function is a pointer or a mutable reference, "
                   "which means nothing in another process: take a value or a const reference",
                   function, kPosition, Type);
  } else if constexpr (verdict.fault == Fault::kUnsendable) {
    using Type = Held<At<kPosition, Parameter...>>;
    MUSTER_REFUSE_(ArgumentCannotBeSent_GiveItsType_MUSTER_FIELDS, ArgumentCanBeSent,
                   "muster: this argument of the function cannot be sent: give its type "
                   "MUSTER_FIELDS(Type, its fields)",
                   function, kPosition, Type);
  } else if constexpr (verdict.fault == Fault::kResult) {
    using Type = Result<function>;
    MUSTER_REFUSE_(ResultCannotBeSent_GiveItsType_MUSTER_FIELDS, ResultCanBeSent,
                   "muster: the result of the function cannot be sent: give its type "
                   "MUSTER_FIELDS(Type, its fields)",
                   function, Type);
  } else if constexpr (verdict.fault == Fault::kCount) {
    constexpr int kGiven = sizeof...(Argument);
    constexpr int kExpected = sizeof...(Parameter);
    MUSTER_REFUSE_(WrongNumberOfArguments, RightNumberOfArguments,
                   "muster: wrong number of arguments for the function (given, then expected)",
                   function, kGiven, kExpected);
  } else {
    using Given = std::remove_cvref_t<At<kPosition, Argument...>>;
    using Expected = Held<At<kPosition, Parameter...>>;
    MUSTER_REFUSE_(ArgumentHasWrongType, ArgumentHasRightType,
                   "muster: this argument has another type than the function's parameter (given, "
                   "then expected)",
                   function, kPosition, Given, Expected);
  }
}

template <auto function, typename... Argument>
void Refuse() {
  constexpr Verdict kVerdict = Judge<function, Argument...>();
  if constexpr (kVerdict.fault == Fault::kFunction) {
    MUSTER_REFUSE_(NeedsAFunctionOrACapturelessLambda_WithoutAuto,
                   IsAFunctionOrACapturelessLambda_WithoutAuto,
                   "muster: what runs remotely is a function or a captureless lambda, without auto "
                   "parameters",
                   function);
  } else {
    RefuseCall<function, kVerdict>(TypeList<Argument...>(),
                                   typename SignatureOf<function>::Parameters());
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

// Builds the call and gives it to `submit`, which makes an ObjectHandle of it.
template <auto function, typename Ref, typename Submit, typename... Value>
Ref Remote(Submit submit, Value&&... values) {
  if constexpr (Judge<function, Value...>().fault == Fault::kNone) {
    return RefAccess::Make<Ref>(CallWith<function>(typename SignatureOf<function>::Parameters(),
                                                   std::move(submit),
                                                   std::forward<Value>(values)...));
  } else {
    Refuse<function, Value...>();
    return RefAccess::Make<Ref>(nullptr);
  }
}

}  // namespace muster::internal
