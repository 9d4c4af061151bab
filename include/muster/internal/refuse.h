// A refusal at compile time is one line that says what is wrong with which function, argument and
// type.
//   MUSTER_RULE_(wrong, right, template parameters);              once, at namespace
//   muster::internal MUSTER_REFUSE_(wrong, right, words, template arguments);      in an ordinary
//   function
// clang prints the condition of a static_assert with its template arguments. g++ does not, but
// prints those of a deleted function that is called.
#pragma once

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
