// Writing and reading the primitives of MessagePack
// (https://github.com/msgpack/msgpack/blob/master/spec.md).
//
// Reading is total: it never reads past the end, throws nothing of its own and allocates no more
// than a constant times the bytes that are really there. The first failure sticks; check ok() at
// the end. Why not msgpack-cxx: it reads into a tree of objects first (an allocation per element,
// chosen by the sender), reports by exceptions, cuts off sizes above 4 GiB, and costs a second per
// including file.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"

namespace muster::internal {

static_assert(std::endian::native == std::endian::little, "blobs of numbers are little-endian");

// A string or blob longer than this is written as an array of parts.
inline constexpr size_t kPartBytesMax = std::numeric_limits<uint32_t>::max();
enum class BytesKind : uint8_t { kString, kBinary };

// --- Writing: appends to `out` ---

template <typename Unsigned>
void WriteTagged(std::string& out, uint8_t tag, Unsigned value) {
  char bytes[1 + sizeof(Unsigned)];
  bytes[0] = static_cast<char>(tag);
  for (size_t i = 0; i < sizeof(Unsigned); ++i) {
    bytes[1 + i] =
        static_cast<char>(static_cast<uint8_t>(value >> (8 * (sizeof(Unsigned) - 1 - i))));
  }
  out.append(bytes, sizeof(bytes));
}

inline void WriteUnsigned(std::string& out, uint64_t value) {
  if (value < 0x80) {
    out.push_back(static_cast<char>(value));
  } else if (value <= 0xff) {
    WriteTagged(out, 0xcc, static_cast<uint8_t>(value));
  } else if (value <= 0xffff) {
    WriteTagged(out, 0xcd, static_cast<uint16_t>(value));
  } else if (value <= 0xffffffff) {
    WriteTagged(out, 0xce, static_cast<uint32_t>(value));
  } else {
    WriteTagged(out, 0xcf, value);
  }
}

inline void WriteSigned(std::string& out, int64_t value) {
  if (value >= 0) {
    WriteUnsigned(out, static_cast<uint64_t>(value));
  } else if (value >= -32) {
    out.push_back(static_cast<char>(value));
  } else if (value >= std::numeric_limits<int8_t>::min()) {
    WriteTagged(out, 0xd0, static_cast<uint8_t>(value));
  } else if (value >= std::numeric_limits<int16_t>::min()) {
    WriteTagged(out, 0xd1, static_cast<uint16_t>(value));
  } else if (value >= std::numeric_limits<int32_t>::min()) {
    WriteTagged(out, 0xd2, static_cast<uint32_t>(value));
  } else {
    WriteTagged(out, 0xd3, static_cast<uint64_t>(value));
  }
}

inline void WriteBool(std::string& out, bool value) {
  out.push_back(static_cast<char>(value ? 0xc3 : 0xc2));
}
inline void WriteFloat(std::string& out, float value) {
  WriteTagged(out, 0xca, std::bit_cast<uint32_t>(value));
}
inline void WriteDouble(std::string& out, double value) {
  WriteTagged(out, 0xcb, std::bit_cast<uint64_t>(value));
}
inline void WriteNil(std::string& out) { out.push_back(static_cast<char>(0xc0)); }

// REQUIRES: size < 2^32, as for every container.
inline void WriteArrayHeader(std::string& out, size_t size) {
  if (size < 16) {
    out.push_back(static_cast<char>(0x90 | size));
  } else if (size <= 0xffff) {
    WriteTagged(out, 0xdc, static_cast<uint16_t>(size));
  } else {
    WriteTagged(out, 0xdd, static_cast<uint32_t>(size));
  }
}
inline void WriteMapHeader(std::string& out, size_t size) {
  if (size < 16) {
    out.push_back(static_cast<char>(0x80 | size));
  } else if (size <= 0xffff) {
    WriteTagged(out, 0xde, static_cast<uint16_t>(size));
  } else {
    WriteTagged(out, 0xdf, static_cast<uint32_t>(size));
  }
}

inline void WriteOnePart(std::string& out, BytesKind kind, const void* data, size_t size) {
  const bool text = kind == BytesKind::kString;
  if (text && size < 32) {
    out.push_back(static_cast<char>(0xa0 | size));
  } else if (size <= 0xff) {
    WriteTagged(out, text ? 0xd9 : 0xc4, static_cast<uint8_t>(size));
  } else if (size <= 0xffff) {
    WriteTagged(out, text ? 0xda : 0xc5, static_cast<uint16_t>(size));
  } else {
    WriteTagged(out, text ? 0xdb : 0xc6, static_cast<uint32_t>(size));
  }
  if (size > 0) out.append(static_cast<const char*>(data), size);
}

inline void WriteBytes(std::string& out, BytesKind kind, const void* data, size_t size,
                       size_t part_max = kPartBytesMax) {
  if (size <= part_max) return WriteOnePart(out, kind, data, size);
  WriteArrayHeader(out, (size + part_max - 1) / part_max);
  const char* at = static_cast<const char*>(data);
  for (size_t left = size; left > 0;) {
    const size_t part = left < part_max ? left : part_max;
    WriteOnePart(out, kind, at, part);
    at += part;
    left -= part;
  }
}

// --- Reading ---

class Reader {
 public:
  explicit Reader(std::string_view bytes)
      : begin_(bytes.data()), at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool ok() const { return failure_ == nullptr; }
  size_t remaining() const { return static_cast<size_t>(end_ - at_); }
  // kInvalidArgument with the place and what was expected there; OK when all went well.
  absl::Status status() const;

  // Remembers the first failure; false, so that readers can return it.
  bool Fail(const char* expected) {
    if (ok()) failure_ = expected;
    return false;
  }
  bool Finish() { return remaining() == 0 || Fail("the end"); }

  // Bounds the nesting of values, which is the sender's to choose in recursive types.
  bool Enter() { return ++depth_ <= kDepthMax || Fail("less nesting"); }
  void Leave() { --depth_; }

  template <typename Integer>
  bool ReadInteger(Integer& value);
  bool ReadBool(bool& value);
  bool ReadFloat(float& value);
  bool ReadDouble(double& value);
  bool ReadNil();
  bool ReadArrayHeader(size_t& size) { return ReadHeader(0x90, 0xdc, 0xdd, size, "an array"); }
  bool ReadMapHeader(size_t& size) { return ReadHeader(0x80, 0xde, 0xdf, size, "a map"); }
  // An array of exactly this size.
  bool ReadArrayOf(size_t want) {
    size_t size = 0;
    return ReadArrayHeader(size) && (size == want || Fail("an array of another size"));
  }

  // Calls make_room(size), which gives where `size` bytes go (null for an impossible size), and
  // copies them.
  template <typename MakeRoom>
  bool ReadBytes(BytesKind kind, MakeRoom make_room);
  // The next part, not copied.
  bool ReadOnePart(BytesKind kind, std::string_view& part);
  bool NextIsArray() const {
    return remaining() > 0 && ((Peek() & 0xf0) == 0x90 || Peek() == 0xdc || Peek() == 0xdd);
  }

 private:
  static constexpr int kDepthMax = 500;

  uint8_t Peek() const { return static_cast<uint8_t>(*at_); }
  bool Take(size_t size, const char* expected) {
    if (remaining() < size) return Fail(expected);
    at_ += size;
    return true;
  }
  // A tag and the big-endian number after it. REQUIRES: the tag is there.
  template <typename Unsigned>
  bool ReadTagged(Unsigned& value, const char* expected) {
    if (remaining() < 1 + sizeof(Unsigned)) return Fail(expected);
    value = 0;
    for (size_t i = 0; i < sizeof(Unsigned); ++i) {
      value = static_cast<Unsigned>((static_cast<uint64_t>(value) << 8) |
                                    static_cast<uint8_t>(at_[1 + i]));
    }
    at_ += 1 + sizeof(Unsigned);
    return true;
  }
  template <typename Unsigned>
  bool ReadSize(size_t& size, const char* expected) {
    Unsigned value = 0;
    if (!ReadTagged(value, expected)) return false;
    size = value;
    return true;
  }
  bool ReadHeader(uint8_t fix, uint8_t tag16, uint8_t tag32, size_t& size, const char* expected);
  bool ReadWideInteger(bool& negative, uint64_t& bits);

  const char* begin_;
  const char* at_;
  const char* end_;
  const char* failure_ = nullptr;
  int depth_ = 0;
};

inline absl::Status Reader::status() const {
  if (ok()) return absl::OkStatus();
  return absl::InvalidArgumentError("byte " + std::to_string(at_ - begin_) + " of " +
                                    std::to_string(end_ - begin_) + ": expected " + failure_);
}

// `bits` is the value in two's complement.
inline bool Reader::ReadWideInteger(bool& negative, uint64_t& bits) {
  constexpr const char* kExpected = "an integer";
  if (remaining() == 0) return Fail(kExpected);
  const uint8_t tag = Peek();
  const auto read = [&](auto narrow, bool is_signed) {
    using Unsigned = decltype(narrow);
    if (!ReadTagged(narrow, kExpected)) return false;
    bits = narrow;
    if (is_signed) {
      bits = static_cast<uint64_t>(
          static_cast<int64_t>(static_cast<std::make_signed_t<Unsigned>>(narrow)));
      negative = static_cast<int64_t>(bits) < 0;
    }
    return true;
  };
  switch (tag) {
    case 0xcc:
      return read(uint8_t{}, false);
    case 0xcd:
      return read(uint16_t{}, false);
    case 0xce:
      return read(uint32_t{}, false);
    case 0xcf:
      return read(uint64_t{}, false);
    case 0xd0:
      return read(uint8_t{}, true);
    case 0xd1:
      return read(uint16_t{}, true);
    case 0xd2:
      return read(uint32_t{}, true);
    case 0xd3:
      return read(uint64_t{}, true);
    default:
      break;
  }
  if (tag >= 0x80 && tag < 0xe0) return Fail(kExpected);
  negative = tag >= 0xe0;
  bits = static_cast<uint64_t>(static_cast<int64_t>(static_cast<int8_t>(tag)));
  ++at_;
  return true;
}

template <typename Integer>
bool Reader::ReadInteger(Integer& value) {
  bool negative = false;
  uint64_t bits = 0;
  if (!ReadWideInteger(negative, bits)) return false;
  value = static_cast<Integer>(bits);
  const bool fits = negative ? std::is_signed_v<Integer> &&
                                   static_cast<int64_t>(value) == static_cast<int64_t>(bits)
                             : !(value < Integer{0}) && static_cast<uint64_t>(value) == bits;
  return fits || Fail("an integer within its type's range");
}

inline bool Reader::ReadBool(bool& value) {
  if (remaining() == 0 || (Peek() != 0xc2 && Peek() != 0xc3)) return Fail("a boolean");
  value = Peek() == 0xc3;
  ++at_;
  return true;
}

inline bool Reader::ReadFloat(float& value) {
  uint32_t bits = 0;
  if (remaining() == 0 || Peek() != 0xca) return Fail("a float");
  if (!ReadTagged(bits, "a float")) return false;
  value = std::bit_cast<float>(bits);
  return true;
}

inline bool Reader::ReadDouble(double& value) {
  uint64_t bits = 0;
  if (remaining() == 0 || Peek() != 0xcb) return Fail("a double");
  if (!ReadTagged(bits, "a double")) return false;
  value = std::bit_cast<double>(bits);
  return true;
}

inline bool Reader::ReadNil() {
  if (remaining() == 0 || Peek() != 0xc0) return Fail("nil");
  ++at_;
  return true;
}

inline bool Reader::ReadHeader(uint8_t fix, uint8_t tag16, uint8_t tag32, size_t& size,
                               const char* expected) {
  if (remaining() == 0) return Fail(expected);
  const uint8_t tag = Peek();
  if (tag == tag16) return ReadSize<uint16_t>(size, expected);
  if (tag == tag32) return ReadSize<uint32_t>(size, expected);
  if ((tag & 0xf0) != fix) return Fail(expected);
  size = tag & 0x0f;
  ++at_;
  return true;
}

inline bool Reader::ReadOnePart(BytesKind kind, std::string_view& part) {
  const bool text = kind == BytesKind::kString;
  const char* const expected = text ? "a string" : "bytes";
  if (remaining() == 0) return Fail(expected);
  const uint8_t tag = Peek();
  size_t size = 0;
  if (text && (tag & 0xe0) == 0xa0) {
    size = tag & 0x1f;
    ++at_;
  } else if (tag == (text ? 0xd9 : 0xc4)) {
    if (!ReadSize<uint8_t>(size, expected)) return false;
  } else if (tag == (text ? 0xda : 0xc5)) {
    if (!ReadSize<uint16_t>(size, expected)) return false;
  } else if (tag == (text ? 0xdb : 0xc6)) {
    if (!ReadSize<uint32_t>(size, expected)) return false;
  } else {
    return Fail(expected);
  }
  part = std::string_view(at_, size < remaining() ? size : remaining());
  return Take(size, "more bytes");
}

template <typename MakeRoom>
bool Reader::ReadBytes(BytesKind kind, MakeRoom make_room) {
  std::string_view part;
  const auto copy = [&part](char*& to) {
    if (!part.empty()) std::memcpy(to, part.data(), part.size());
    to += part.size();
  };
  char* to = nullptr;
  if (!NextIsArray()) {
    if (!ReadOnePart(kind, part)) return false;
    if (!make_room(part.size(), to)) return Fail("bytes of another size");
    copy(to);
    return true;
  }
  size_t parts = 0;
  if (!ReadArrayHeader(parts)) return false;
  const char* const first = at_;
  size_t total = 0;
  for (size_t i = 0; i < parts; ++i) {
    if (!ReadOnePart(kind, part)) return false;
    total += part.size();
  }
  if (!make_room(total, to)) return Fail("bytes of another size");
  at_ = first;
  for (size_t i = 0; i < parts; ++i) {
    ReadOnePart(kind, part);
    copy(to);
  }
  return true;
}

}  // namespace muster::internal
