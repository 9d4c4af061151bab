// Reads every #include of the tree and fails on an arrow that the tables below lack. To add an
// arrow, change the table first, on purpose, and say why in the commit. The rule that fits a file
// is the one with the longest prefix of its path.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::absl::EndsWith;
using ::absl::StartsWith;

using Strings = std::vector<std::string>;

struct Rule {
  Strings rooms;      // Project paths that it may include, by prefix. Its own room always.
  Strings libraries;  // Names of kLibraries; std always.
};

const Strings kRuntimeLibraries = {"absl",     "grpc", "protobuf", "spdlog",
                                   "nlohmann", "yaml", "cli11",    "msgpack"};

Rule Runtime(Strings rooms) {
  // What every runtime room may know. head/, worker/ and client/ know each other through proto/
  // only.
  for (const char* floor : {"runtime/base/", "runtime/wire/", "scheduler/", "proto/"}) {
    rooms.push_back(floor);
  }
  return {rooms, kRuntimeLibraries};
}

// Rooms, as in the table of rooms in CONTRIBUTING.md.
const std::map<std::string, Rule> kRooms = {
    {"scheduler/", {{}, {"absl"}}},
    {"scheduler/base/", {{}, {"absl"}}},
    {"kernels/", {{"scheduler/base/"}, {"absl", "blas", "gloo", "openmp"}}},
    {"kernels/cuda/", {{"scheduler/base/", "kernels/"}, {"absl", "cuda"}}},
    {"include/muster/", {{}, {"absl", "msgpack"}}},
    {"runtime/base/", {{"scheduler/base/"}, {"absl", "spdlog"}}},
    {"runtime/wire/",
     {{"runtime/base/", "scheduler/", "proto/"}, {"absl", "grpc", "openssl", "protobuf"}}},
    {"runtime/snapshot/", {{"runtime/base/", "scheduler/"}, {"absl", "nlohmann"}}},
    {"runtime/head/",
     Runtime({"runtime/snapshot/", "runtime/objects/", "runtime/jobs/", "runtime/http/"})},
    {"runtime/worker/", Runtime({"runtime/objects/"})},
    {"runtime/cluster/", Runtime({"include/muster/", "runtime/head/", "runtime/worker/"})},
    {"runtime/executor/", Runtime({"include/muster/", "runtime/client/", "runtime/collective/",
                                   "runtime/objects/", "kernels/"})},
    {"runtime/client/", Runtime({"include/muster/", "runtime/cluster/", "runtime/collective/",
                                 "runtime/executor/", "runtime/objects/"})},
    {"runtime/collective/",
     {{"include/muster/", "kernels/", "runtime/base/", "scheduler/base/"}, {"absl", "gloo"}}},
    {"runtime/objects/", Runtime({})},
    {"runtime/jobs/", Runtime({"runtime/http/"})},
    {"runtime/http/", Runtime({})},
    {"runtime/cli/",
     Runtime({"runtime/head/", "runtime/worker/", "runtime/cluster/", "runtime/client/",
              "runtime/snapshot/", "runtime/jobs/", "runtime/http/"})},
    {"examples/", {{"include/muster/", "kernels/"}, {"absl", "msgpack"}}},
    {"tests/", {{""}, {"*"}}},
    {"bench/", {{""}, {"*"}}},
};

// How an include tells which library it means: a prefix of what stands in its quotes or brackets.
const std::map<std::string, Strings> kLibraries = {
    {"absl", {"absl/"}},
    {"grpc", {"grpc/", "grpcpp/"}},
    {"protobuf", {"google/protobuf/"}},
    {"spdlog", {"spdlog/"}},
    {"nlohmann", {"nlohmann/"}},
    {"yaml", {"yaml-cpp/"}},
    {"cli11", {"CLI/"}},
    {"msgpack", {"msgpack"}},
    {"boost", {"boost/"}},
    {"sqlite", {"sqlite3"}},
    {"curl", {"curl/"}},
    {"openssl", {"openssl/"}},
    {"archive", {"archive"}},
    {"prometheus", {"prometheus/"}},
    {"gloo", {"gloo/"}},
    {"ray", {"ray/"}},
    {"blas", {"cblas", "openblas"}},
    {"openmp", {"omp.h"}},
    {"cuda", {"cuda", "cublas", "nccl", "cub/", "cooperative_groups", "nvml", "mma.h"}},
    {"test", {"gtest/", "gmock/", "benchmark/"}},
};

// These cost seconds in every file that sees them: never in a header.
const Strings kSourceOnly = {"spdlog", "nlohmann", "yaml", "cli11", "boost"};

// Files that may talk gRPC; its headers cost 3 s each. Generated *.grpc.pb.h count as gRPC.
const Strings kGrpcFiles = {
    "runtime/wire/grpc_log.cc",
    "runtime/wire/head_link.cc",
    "runtime/wire/head_server.cc",
};

// Pure code: events in, actions out. Neither these headers nor these words. What slab.cc asks the
// kernel for is advice about pages, which no decision can see.
const std::regex kPure(R"((?!scheduler/base/slab\.cc$)scheduler/.*|.*_core\.(h|cc))");
const Strings kImpureHeaders = {"chrono",
                                "ctime",
                                "time.h",
                                "thread",
                                "mutex",
                                "shared_mutex",
                                "condition_variable",
                                "atomic",
                                "future",
                                "semaphore",
                                "stop_token",
                                "random",
                                "fstream",
                                "iostream",
                                "filesystem",
                                "cstdio",
                                "stdio.h",
                                "cstdlib",
                                "stdlib.h",
                                "unistd.h",
                                "fcntl.h",
                                "sys/",
                                "netinet/",
                                "arpa/",
                                "poll.h",
                                "pthread.h",
                                "signal.h",
                                "csignal",
                                "absl/synchronization/",
                                "absl/random/",
                                "absl/log/",
                                "absl/time/clock.h",
                                "absl/flags/",
                                "runtime/base/mutex.h",
                                "runtime/base/mailbox.h",
                                "runtime/base/clock.h",
                                "runtime/base/log.h",
                                "grpc/",
                                "grpcpp/",
                                "spdlog/"};
const Strings kImpureWords = {"absl::Now(", "getenv(", "GetCurrentTimeNanos(", "rand("};
// Where pure code meets the process: a broken invariant ends it; a program plays scripts from
// files.
const Strings kPureExceptions = {"scheduler/base/check.cc", "scheduler/script/scheduler_script.cc"};

bool StartsWithAny(const std::string& text, const Strings& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& prefix) { return StartsWith(text, prefix); });
}

bool Contains(const Strings& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool IsTest(const std::string& path) {
  return EndsWith(path, "_test.cc") || absl::StrContains(path, "/testing/") ||
         absl::StrContains(path, "/test_");
}

// The project path an include names, or "" for a library's or a system header.
std::string ProjectPath(const std::string& included) {
  if (StartsWith(included, "muster/v1/")) return "proto/" + included;
  if (StartsWith(included, "muster/")) return "include/" + included;
  static const Strings kTops = {"scheduler/", "kernels/",   "proto/", "runtime/",
                                "examples/",  "dashboard/", "bench/", "tests/"};
  return StartsWithAny(included, kTops) ? included : "";
}

std::string LibraryOf(const std::string& included) {
  for (const auto& [library, prefixes] : kLibraries) {
    if (StartsWithAny(included, prefixes)) return library;
  }
  return "";
}

const std::pair<const std::string, Rule>* RuleFor(const std::string& path) {
  const std::pair<const std::string, Rule>* best = nullptr;
  for (const auto& entry : kRooms) {
    if (StartsWith(path, entry.first) && (!best || entry.first.size() > best->first.size())) {
      best = &entry;
    }
  }
  return best;
}

class File {
 public:
  File(std::string path, const std::string& text) : path_(std::move(path)) {
    static const std::regex kInclude(R"re(^\s*#\s*include\s*(["<])([^">]+)[">])re");
    const auto* rule = RuleFor(path_);
    if (rule == nullptr) {
      Complain(0, "stands in no room of the table");
      return;
    }
    std::istringstream lines(text);
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      std::smatch match;
      if (std::regex_search(line, match, kInclude)) {
        CheckInclude(number, *rule, match[2], match[1] == "<");
      } else if (IsPure()) {
        CheckWords(number, line);
      }
    }
    if (EndsWith(path_, ".h") && !absl::StrContains(text, "#pragma once")) {
      Complain(0, "is a header without #pragma once");
    }
  }

  const Strings& complaints() const { return complaints_; }

 private:
  bool IsPure() const {
    return std::regex_match(path_, kPure) && !IsTest(path_) && !Contains(kPureExceptions, path_);
  }

  void Complain(int line, const std::string& why) {
    complaints_.push_back(path_ + (line > 0 ? ":" + std::to_string(line) : "") + ": " + why);
  }

  void CheckInclude(int line, const std::pair<const std::string, Rule>& rule,
                    const std::string& included, bool angled) {
    const std::string project = ProjectPath(included);
    const std::string library = LibraryOf(included);
    if (!project.empty()) {
      if (angled) Complain(line, "includes <" + included + ">: the project's own take quotes");
      if (!StartsWith(project, rule.first) && !StartsWithAny(project, rule.second.rooms) &&
          !(IsTest(path_) &&
            (StartsWith(project, "tests/") || StartsWith(project, "include/muster/")))) {
        Complain(line, rule.first + " may not include " + project);
      }
    } else if (!library.empty()) {
      CheckLibrary(line, rule, included, library);
    } else if (!angled) {
      Complain(line, "includes \"" + included + "\": write it from the root");
    }
    if ((library == "grpc" || EndsWith(included, ".grpc.pb.h")) && !StartsWith(path_, "tests/") &&
        !StartsWith(path_, "bench/") && !IsTest(path_) && !Contains(kGrpcFiles, path_)) {
      Complain(line, "is not on the list of files that may talk gRPC");
    }
    if (IsPure() && StartsWithAny(included, kImpureHeaders)) {
      Complain(line, "is pure code and may not include " + included);
    }
  }

  void CheckLibrary(int line, const std::pair<const std::string, Rule>& rule,
                    const std::string& included, const std::string& library) {
    const Strings& allowed = rule.second.libraries;
    if (!Contains(allowed, "*") && !Contains(allowed, library) &&
        !(library == "test" && IsTest(path_))) {
      Complain(line, rule.first + " may not use " + library + " (" + included + ")");
    }
    if (Contains(kSourceOnly, library) && !EndsWith(path_, ".cc")) {
      Complain(line, library + " belongs in .cc files only");
    }
  }

  void CheckWords(int line, const std::string& text) {
    const std::string code = text.substr(0, text.find("//"));
    for (const std::string& word : kImpureWords) {
      const size_t at = code.find(word);
      if (at == std::string::npos) continue;
      const bool whole = at == 0 || !(std::isalnum(static_cast<unsigned char>(code[at - 1])) ||
                                      code[at - 1] == '_');
      if (whole) Complain(line, "is pure code and may not call " + word + ")");
    }
  }

  const std::string path_;
  Strings complaints_;
};

Strings ComplaintsOf(const std::string& path, const std::string& text) {
  return File(path, text).complaints();
}

TEST(LayeringTest, RoomsIncludeOnlyWhatTheTableAllows) {
  const std::filesystem::path root(MUSTER_ROOT);
  int files = 0;
  for (const char* top :
       {"scheduler", "kernels", "include", "runtime", "examples", "bench", "tests"}) {
    if (!std::filesystem::exists(root / top)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / top)) {
      const std::string extension = entry.path().extension().string();
      if (!Contains({".h", ".cc", ".cu", ".cuh"}, extension)) continue;
      std::ifstream stream(entry.path());
      std::stringstream text;
      text << stream.rdbuf();
      const std::string path = std::filesystem::relative(entry.path(), root).generic_string();
      for (const std::string& complaint : ComplaintsOf(path, text.str())) {
        ADD_FAILURE() << complaint;
      }
      ++files;
    }
  }
  EXPECT_GT(files, 10) << "is MUSTER_ROOT right? " << root;
}

// The checker itself: each kind of breach, planted.
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(LayeringTest, AllowedIncludesPass) {
  EXPECT_THAT(ComplaintsOf("scheduler/a.cc",
                           "#include <map>\n#include \"absl/time/time.h\"\n"
                           "#include \"scheduler/base/check.h\"\n"),
              IsEmpty());
  EXPECT_THAT(ComplaintsOf("runtime/head/a.cc", "#include \"muster/v1/common.pb.h\"\n"), IsEmpty());
}

TEST(LayeringTest, RoomsMeetOnlyThroughProto) {
  EXPECT_THAT(ComplaintsOf("runtime/head/a.cc", "#include \"runtime/worker/b.h\"\n"),
              ElementsAre("runtime/head/a.cc:1: runtime/head/ may not include runtime/worker/b.h"));
  EXPECT_THAT(ComplaintsOf("scheduler/a.cc", "#include \"runtime/base/mutex.h\"\n"),
              ::testing::SizeIs(2));  // The arrow, and impure.
  EXPECT_THAT(ComplaintsOf("include/muster/a.h", "#pragma once\n#include \"scheduler/ids.h\"\n"),
              ElementsAre(HasSubstr("may not include scheduler/ids.h")));
  EXPECT_THAT(ComplaintsOf("runtime/worker/a.cc", "#include \"kernels/gemm.h\"\n"),
              ElementsAre(HasSubstr("may not include kernels/gemm.h")));
}

TEST(LayeringTest, ExpensiveLibrariesStayInSources) {
  EXPECT_THAT(ComplaintsOf("runtime/head/a.h", "#pragma once\n#include \"spdlog/spdlog.h\"\n"),
              ElementsAre(HasSubstr("spdlog belongs in .cc files only")));
  EXPECT_THAT(ComplaintsOf("scheduler/a.cc", "#include \"nlohmann/json.hpp\"\n"),
              ElementsAre(HasSubstr("scheduler/ may not use nlohmann")));
  EXPECT_THAT(ComplaintsOf("kernels/cpu/a.cc", "#include <cuda_runtime.h>\n"),
              ElementsAre(HasSubstr("kernels/ may not use cuda")));
}

TEST(LayeringTest, OnlyListedFilesTalkGrpc) {
  EXPECT_THAT(ComplaintsOf("runtime/head/state.cc", "#include \"grpcpp/grpcpp.h\"\n"),
              ElementsAre(HasSubstr("may talk gRPC")));
  EXPECT_THAT(ComplaintsOf("runtime/head/state.cc", "#include \"muster/v1/cluster.grpc.pb.h\"\n"),
              ElementsAre(HasSubstr("may talk gRPC")));
  EXPECT_THAT(ComplaintsOf("runtime/wire/head_link.cc", "#include \"grpcpp/grpcpp.h\"\n"),
              IsEmpty());
}

TEST(LayeringTest, PureCodeHasNoWorldAroundIt) {
  EXPECT_THAT(ComplaintsOf("runtime/worker/worker_core.cc", "#include <thread>\n"),
              ElementsAre(HasSubstr("may not include thread")));
  EXPECT_THAT(ComplaintsOf("scheduler/a.cc", "  x = absl::Now();  // why\n"),
              ElementsAre(HasSubstr("may not call absl::Now(")));
  EXPECT_THAT(ComplaintsOf("scheduler/a.cc", "// not absl::Now()\nint Operand(int);\n"), IsEmpty());
  EXPECT_THAT(ComplaintsOf("scheduler/a_test.cc", "#include <random>\n"), IsEmpty());
}

TEST(LayeringTest, HeadersHaveAGuardAndIncludesStartAtTheRoot) {
  EXPECT_THAT(ComplaintsOf("scheduler/a.h", "int x;\n"), ElementsAre(HasSubstr("#pragma once")));
  EXPECT_THAT(ComplaintsOf("scheduler/a.cc", "#include \"b.h\"\n"),
              ElementsAre(HasSubstr("write it from the root")));
  EXPECT_THAT(ComplaintsOf("scheduler/a.cc", "#include <scheduler/b.h>\n"),
              ElementsAre(HasSubstr("take quotes")));
  EXPECT_THAT(ComplaintsOf("elsewhere/a.cc", ""), ElementsAre(HasSubstr("in no room")));
}

}  // namespace
}  // namespace muster
