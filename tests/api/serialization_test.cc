#include "muster/serialization.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace muster {
namespace outer {

enum class Colour : uint8_t { kRed = 1, kBlue = 200 };

struct Plain {
  int a = 0;
  std::string b = {};
  double c[2] = {0, 0};
  std::optional<std::vector<int>> d = {};
  bool operator==(const Plain& o) const {
    return a == o.a && b == o.b && c[0] == o.c[0] && c[1] == o.c[1] && d == o.d;
  }
};

struct Tree {
  int value = 0;
  std::vector<Tree> children = {};
  bool operator==(const Tree&) const = default;
};

struct Empty {
  bool operator==(const Empty&) const = default;
};

struct Sixteen {
  int a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8, i = 9, j = 10, k = 11, l = 12, m = 13,
      n = 14, o = 15, p = 16;
  bool operator==(const Sixteen&) const = default;
};
struct Seventeen {
  int a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q;
};

class Point {  // With a constructor: no aggregate.
 public:
  Point() = default;
  Point(int x_in, int y_in) : x(x_in), y(y_in) {}
  bool operator==(const Point&) const = default;
  int x = 0;
  int y = 0;
};
MUSTER_FIELDS(Point, x, y);

struct DerivedPoint : Point {
  int z = 0;
};

class Nothing {
 public:
  explicit Nothing(int) {}
  Nothing() = default;
};
MUSTER_FIELDS(Nothing);

struct ManyFields : Empty {
  int f1 = 1, f2 = 2, f3 = 3, f4 = 4, f5 = 5, f6 = 6, f7 = 7, f8 = 8, f9 = 9, f10 = 10, f11 = 11,
      f12 = 12, f13 = 13, f14 = 14, f15 = 15, f16 = 16, f17 = 17, f18 = 18, f19 = 19, f20 = 20,
      f21 = 21, f22 = 22, f23 = 23, f24 = 24, f25 = 25, f26 = 26, f27 = 27, f28 = 28;
  bool operator==(const ManyFields&) const = default;
};
MUSTER_FIELDS(ManyFields, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15, f16,
              f17, f18, f19, f20, f21, f22, f23, f24, f25, f26, f27, f28);

struct HasPointer {
  int* p;
};
struct HasReference {
  int& r;
};
struct HasConst {
  const int c = 0;
};

}  // namespace outer

namespace {

using internal::IsSendable;

template <typename T>
void ComesBack(const T& value) {
  const std::string bytes = Serialize(value);
  const absl::StatusOr<T> read = Deserialize<T>(bytes);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(*read == value);
  for (size_t size = 0; size < bytes.size() && size < 300; ++size) {
    EXPECT_FALSE(Deserialize<T>(std::string_view(bytes).substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(Deserialize<T>(bytes + '\0').ok());
}

template <typename T>
void ExtremesComeBack() {
  for (const T value : {std::numeric_limits<T>::min(), std::numeric_limits<T>::lowest(),
                        std::numeric_limits<T>::max(), T{0}, T{1}}) {
    ComesBack(value);
  }
}

TEST(SerializationTest, NumbersComeBack) {
  ExtremesComeBack<int8_t>();
  ExtremesComeBack<uint8_t>();
  ExtremesComeBack<int16_t>();
  ExtremesComeBack<uint16_t>();
  ExtremesComeBack<int32_t>();
  ExtremesComeBack<uint32_t>();
  ExtremesComeBack<int64_t>();
  ExtremesComeBack<uint64_t>();
  ExtremesComeBack<char>();
  ExtremesComeBack<long long>();
  ExtremesComeBack<float>();
  ExtremesComeBack<double>();
  ComesBack(true);
  ComesBack(false);
  ComesBack(-std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(*Deserialize<double>(Serialize(std::nan("")))));
}

// Round every boundary between the forms of an integer.
TEST(SerializationProperty, IntegersNearPowersOfTwoComeBackInTheShortestForm) {
  for (int bit = 0; bit < 63; ++bit) {
    for (int64_t delta = -2; delta <= 2; ++delta) {
      const int64_t value = (int64_t{1} << bit) + delta;
      ComesBack(value);
      ComesBack(-value);
      ComesBack(static_cast<uint64_t>(value));
    }
  }
  EXPECT_EQ(Serialize(127).size(), 1u);
  EXPECT_EQ(Serialize(128).size(), 2u);
  EXPECT_EQ(Serialize(-32).size(), 1u);
  EXPECT_EQ(Serialize(-33).size(), 2u);
  EXPECT_EQ(Serialize(65536).size(), 5u);
}

TEST(SerializationTest, AnIntegerOutOfItsTypesRangeIsRefused) {
  EXPECT_FALSE(Deserialize<int8_t>(Serialize(128)).ok());
  EXPECT_FALSE(Deserialize<uint64_t>(Serialize(-1)).ok());
  EXPECT_FALSE(Deserialize<int64_t>(Serialize(std::numeric_limits<uint64_t>::max())).ok());
  EXPECT_EQ(*Deserialize<uint8_t>(Serialize(int64_t{255})), 255);
}

TEST(SerializationTest, StandardTypesComeBack) {
  for (const size_t size : {0, 1, 31, 32, 255, 256, 65535, 65536}) {
    ComesBack(std::string(size, 'x'));
    ComesBack(std::vector<float>(size, 1.5f));
    ComesBack(std::vector<char>(size, 'c'));
    ComesBack(std::vector<bool>(size, true));
    ComesBack(std::vector<std::string>(size, "y"));
  }
  ComesBack(std::string("nul\0inside", 10));
  ComesBack(std::vector<std::vector<int>>{{}, {1, 2}, {3}});
  ComesBack(std::vector<std::byte>{std::byte{1}, std::byte{255}});
  ComesBack(std::deque<int>{1, 2, 3});
  ComesBack(std::list<std::string>{"a", "b"});
  ComesBack(std::set<int>{3, 1, 2});
  ComesBack(std::unordered_set<std::string>{"a", "b"});
  ComesBack(std::map<std::string, std::vector<int>>{{"a", {1}}, {"b", {}}});
  ComesBack(std::unordered_map<int, double>{{1, 2.5}, {2, 3.5}});
  ComesBack(std::array<int, 3>{1, 2, 3});
  ComesBack(std::array<int, 0>{});
  ComesBack(std::array<std::string, 2>{"a", "b"});
  ComesBack(std::make_pair(1, std::string("x")));
  ComesBack(std::make_tuple(1, 2.5, std::string("x")));
  ComesBack(std::tuple<>());
  ComesBack(std::monostate());
  ComesBack(std::variant<int, std::string>("text"));
  ComesBack(std::variant<std::monostate, int, int>(std::in_place_index<2>, 7));
  ComesBack(outer::Colour::kBlue);
}

TEST(SerializationTest, AnEmptyOptionalInsideAnOptionalKeepsItsPlace) {
  using Nested = std::optional<std::optional<int>>;
  ComesBack(Nested());
  ComesBack(Nested(std::optional<int>()));
  ComesBack(Nested(3));
}

TEST(SerializationTest, TimesComeBackExactly) {
  for (const absl::Duration duration :
       {absl::ZeroDuration(), absl::Nanoseconds(1) / 4, -absl::Nanoseconds(3) / 4,
        absl::Seconds(-5) - absl::Milliseconds(1), absl::InfiniteDuration(),
        -absl::InfiniteDuration(), absl::Seconds(std::numeric_limits<int64_t>::max()),
        absl::Seconds(std::numeric_limits<int64_t>::min())}) {
    ComesBack(duration);
  }
  ComesBack(absl::InfiniteFuture());
  ComesBack(absl::InfinitePast());
  ComesBack(absl::FromUnixNanos(1'700'000'000'123'456'789));
  ComesBack(std::chrono::milliseconds(-5));
  ComesBack(std::chrono::duration<double>(2.5));
  ComesBack(std::chrono::system_clock::time_point(std::chrono::microseconds(77)));
}

TEST(SerializationTest, PlainStructsNeedNothing) {
  ComesBack(outer::Plain{.a = 1, .b = "x", .c = {1, 2}, .d = {{1, 2, 3}}});
  ComesBack(std::vector<outer::Plain>(3));
  ComesBack(outer::Empty());
  ComesBack(outer::Sixteen());
  ComesBack(outer::Tree{.value = 1, .children = {{.value = 2, .children = {{3}}}, {4}}});
}

TEST(SerializationTest, FieldsMakeAnyClassSendable) {
  ComesBack(outer::Point(1, 2));
  ComesBack(std::map<int, outer::Point>{{1, {2, 3}}});
  ComesBack(outer::ManyFields());
  outer::ManyFields other;
  other.f28 = -1;
  EXPECT_EQ(Deserialize<outer::ManyFields>(Serialize(other))->f28, -1);
  EXPECT_TRUE(Deserialize<outer::Nothing>(Serialize(outer::Nothing())).ok());
}

TEST(SerializationTest, WhatWouldLoseSomethingIsNotSendable) {
  static_assert(!IsSendable<int*>);
  static_assert(!IsSendable<const int>);
  static_assert(!IsSendable<int&>);
  static_assert(!IsSendable<void>);
  static_assert(!IsSendable<long double>);
  static_assert(!IsSendable<std::string_view>);
  static_assert(!IsSendable<outer::HasPointer>);
  static_assert(!IsSendable<outer::HasReference>);
  static_assert(!IsSendable<outer::HasConst>);
  static_assert(!IsSendable<outer::Seventeen>);
  static_assert(!IsSendable<outer::DerivedPoint>, "its z would be lost");
  static_assert(!IsSendable<std::vector<outer::HasPointer>>);
  static_assert(!IsSendable<std::map<std::string, std::optional<int*>>>);
  static_assert(!IsSendable<std::variant<int, int*>>);
  static_assert(IsSendable<outer::Tree>);
}

TEST(SerializationTest, ErrorsSayWhereAndWhat) {
  EXPECT_EQ(Deserialize<std::string>(Serialize(7)).status().message(),
            "byte 0 of 1: expected a string");
  const std::string bytes = Serialize(std::make_pair(1, 2));
  EXPECT_EQ((Deserialize<std::pair<int, std::string>>(bytes).status().message()),
            "byte 2 of 3: expected a string");
  EXPECT_EQ(Deserialize<int>("").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SerializationTest, ASizeThatIsNotThereAllocatesNothing) {
  for (const std::string& header :
       {std::string("\xdd\xff\xff\xff\xff", 5), std::string("\xdf\xff\xff\xff\xff", 5),
        std::string("\xc6\xff\xff\xff\xff", 5), std::string("\xdb\xff\xff\xff\xff", 5)}) {
    EXPECT_FALSE(Deserialize<std::vector<outer::Plain>>(header).ok());
    EXPECT_FALSE(Deserialize<std::vector<double>>(header).ok());
    EXPECT_FALSE(Deserialize<std::string>(header).ok());
    EXPECT_FALSE((Deserialize<std::map<int, int>>(header).ok()));
  }
}

TEST(SerializationTest, ABlobThatIsNoWholeNumberOfElementsIsRefused) {
  EXPECT_FALSE(Deserialize<std::vector<double>>(Serialize(std::vector<char>(9))).ok());
  EXPECT_FALSE((Deserialize<std::array<int, 2>>(Serialize(std::vector<int>(3))).ok()));
}

TEST(SerializationTest, NestingIsBounded) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += std::string("\x92\x01\x91", 3);
  const absl::Status status = Deserialize<outer::Tree>(deep).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("less nesting"), absl::string_view::npos) << status;
}

TEST(SerializationTest, BytesBeyondTheLimitOfOnePartAreSentInParts) {
  for (const size_t size : {0, 7, 8, 9, 16, 17, 100}) {
    const std::string text(size, 'x');
    std::string bytes;
    internal::WriteBytes(bytes, internal::BytesKind::kString, text.data(), text.size(), 8);
    EXPECT_EQ(*Deserialize<std::string>(bytes), text);
    bytes.clear();
    internal::WriteBytes(bytes, internal::BytesKind::kBinary, text.data(), text.size(), 8);
    EXPECT_EQ(*Deserialize<std::vector<char>>(bytes), std::vector<char>(size, 'x'));
    EXPECT_FALSE(Deserialize<std::vector<char>>(bytes.substr(0, bytes.size() - 1)).ok());
  }
}

// Worked by hand from the specification.
TEST(SerializationTest, IsMessagePack) {
  EXPECT_EQ(Serialize(std::make_tuple(1, -1, true, std::string("ab"))),
            std::string("\x94\x01\xff\xc3\xa2"
                        "ab",
                        7));
  EXPECT_EQ(Serialize(1.0), std::string("\xcb\x3f\xf0\0\0\0\0\0\0", 9));
  EXPECT_EQ(Serialize(std::map<int, int>{{1, 2}}), "\x81\x01\x02");
  EXPECT_EQ(Serialize(std::vector<uint8_t>{1, 2}), "\xc4\x02\x01\x02");
  EXPECT_EQ(Serialize(40000), "\xcd\x9c\x40");
}

}  // namespace
}  // namespace muster
