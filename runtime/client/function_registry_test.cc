#include "runtime/client/function_registry.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/internal/function.h"

namespace muster::client {
namespace {

int Twice(int number) { return 2 * number; }
int Thrice(int number) { return 3 * number; }

const uint64_t& TwiceKey() { return internal::Registration<Twice>::key; }
const uint64_t& ThriceKey() { return internal::Registration<Thrice>::key; }

TEST(FunctionRegistryTest, FindsAFunctionByItsKeyAndRunsIt) {
  absl::StatusOr<internal::Function> function = FindFunction(TwiceKey());
  ASSERT_TRUE(function.ok()) << function.status();
  EXPECT_EQ(function->name, "Twice");
  const std::string argument = Serialize(21);
  const std::vector<std::string_view> arguments = {argument};
  std::string result;
  ASSERT_TRUE(function->invoker(arguments, result).ok());
  EXPECT_EQ(*Deserialize<int>(result), 42);
}

TEST(FunctionRegistryTest, KeysTellFunctionsApartAndAreThoseOfTheirInvokers) {
  EXPECT_NE(TwiceKey(), ThriceKey());
  EXPECT_EQ(KeyOf(&internal::Invoke<Twice>), TwiceKey());
  EXPECT_EQ(KeyOf(&internal::Invoke<Thrice>), ThriceKey());
}

TEST(FunctionRegistryTest, KeysInTheProgramAreOffsetsFromItsBase) {
  const auto address = reinterpret_cast<uintptr_t>(&internal::Invoke<Twice>);
  const uintptr_t base = address - TwiceKey();
  EXPECT_EQ(base % 4096, 0u);  // Images begin at a page.
  EXPECT_EQ(reinterpret_cast<uintptr_t>(&internal::Invoke<Thrice>) - ThriceKey(), base);
}

TEST(FunctionRegistryTest, AllFunctionsAreSortedByKey) {
  std::set<std::string> names;
  uint64_t last = 0;
  for (const RegisteredFunction& registered : AllFunctions()) {
    EXPECT_GT(registered.key, last);
    last = registered.key;
    names.insert(registered.function.name);
  }
  EXPECT_EQ(names, (std::set<std::string>{"Twice", "Thrice"}));
}

TEST(FunctionRegistryTest, AnUnknownKeyIsNotFound) {
  EXPECT_EQ(FindFunction(1).status().code(), absl::StatusCode::kNotFound);
}

absl::Status NeverNamedInARegistration(std::span<const std::string_view>, std::string&) {
  return absl::OkStatus();
}

TEST(FunctionRegistryTest, AnInvokerThatWasNeverRegisteredHasNoKey) {
  EXPECT_EQ(KeyOf(&NeverNamedInARegistration), std::nullopt);
}

TEST(FunctionRegistryTest, RegisteringAgainKeepsTheFirstName) {
  EXPECT_EQ(internal::RegisterFunction(&internal::Invoke<Twice>, "Other"), TwiceKey());
  EXPECT_EQ(FindFunction(TwiceKey())->name, "Twice");
}

// In libc.so, not in the program.
TEST(FunctionRegistryTest, AFunctionOfASharedLibraryHasATag) {
  const auto elsewhere = reinterpret_cast<internal::Invoker>(reinterpret_cast<void*>(&strtoull));
  const uint64_t key = internal::RegisterFunction(elsewhere, "strtoull");
  EXPECT_NE(key >> 48, 0u);
  EXPECT_EQ(KeyOf(elsewhere), key);
}

std::string Note(uint32_t type, const std::string& name, const std::string& id) {
  const uint32_t header[] = {static_cast<uint32_t>(name.size()), static_cast<uint32_t>(id.size()),
                             type};
  std::string note(reinterpret_cast<const char*>(header), sizeof(header));
  for (const std::string& part : {name, id}) {
    note += part;
    note.resize((note.size() + 3) / 4 * 4);
  }
  return note;
}
const std::string& Gnu() {
  static const std::string name("GNU\0", 4);
  return name;
}

TEST(BuildIdTest, IsFoundAmongOtherNotes) {
  EXPECT_EQ(BuildIdInNotes(Note(1, Gnu(), "abcde") + Note(3, Gnu(), "\x01\xfe\x10")), "01fe10");
}

TEST(BuildIdTest, IsEmptyWhereThereIsNone) {
  EXPECT_EQ(BuildIdInNotes(""), "");
  EXPECT_EQ(BuildIdInNotes(Note(1, Gnu(), "abcd")), "");
  EXPECT_EQ(BuildIdInNotes(Note(3, std::string("Go\0\0", 4), "abcd")), "");
}

TEST(BuildIdTest, DamagedNotesAreReadWithinTheirBounds) {
  const std::string whole = Note(1, Gnu(), "abcd") + Note(3, Gnu(), "abcdefgh");
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(BuildIdInNotes(std::string(whole, 0, size)), "") << size;
  }
  std::string huge = whole;
  std::memset(huge.data(), 0xff, 8);
  EXPECT_EQ(BuildIdInNotes(huge), "");
}

// The same bytes must stand in the file that the loader loaded.
TEST(BuildIdTest, OfThisProgramStandsInItsFile) {
  const std::string& id = MainImageBuildId();
  ASSERT_EQ(id.size(), 40u) << "the project links with --build-id=sha1";
  std::ifstream file("/proc/self/exe", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::string raw;
  for (size_t i = 0; i < id.size(); i += 2) {
    raw.push_back(static_cast<char>(std::stoi(id.substr(i, 2), nullptr, 16)));
  }
  EXPECT_NE(bytes.find(raw), std::string::npos);
}

}  // namespace
}  // namespace muster::client
