#include "runtime/wire/package_file.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/random.h"

namespace muster {
namespace {

using testing::HasSubstr;

class PackageFileTest : public testing::Test {
 protected:
  PackageFileTest() : directory_(absl::StrCat(testing::TempDir(), "/muster-", RandomHex(8))) {
    EXPECT_EQ(PreparePackageDirectory(directory_), absl::OkStatus());
  }
  ~PackageFileTest() override { std::filesystem::remove_all(directory_); }

  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }
  static std::string Digest(absl::string_view bytes) {
    Sha256 sha256;
    sha256.Update(bytes);
    return sha256.HexDigest();
  }
  std::string Path(const std::string& name) const { return absl::StrCat(directory_, "/", name); }

  const std::string directory_;
};

TEST_F(PackageFileTest, DigestIsSha256) {
  EXPECT_EQ(Digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(PackageFileTest, WrittenFileIsReadBack) {
  std::string content;
  for (int i = 0; content.size() < 2 * kPackageChunkBytes + 12345; ++i)
    content += absl::StrCat(i, ",");
  auto writer = PackageWriter::Create(Path("abcd0123"), content.size());
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_EQ(writer->Append(content.substr(0, 1000)), absl::OkStatus());
  EXPECT_EQ(writer->Append(content.substr(1000)), absl::OkStatus());
  EXPECT_FALSE(std::filesystem::exists(Path("abcd0123")));
  EXPECT_EQ(writer->Finish(Digest(content)), absl::OkStatus());
  struct stat info = {};
  ASSERT_EQ(stat(Path("abcd0123").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
  std::string read;
  std::string sha256;
  EXPECT_EQ(ReadPackage(Path("abcd0123"),
                        [&](const PackagePiece& piece) {
                          EXPECT_EQ(piece.size_bytes, content.size());
                          EXPECT_EQ(sha256, "");
                          read += piece.data;
                          sha256 = piece.sha256;
                          return true;
                        }),
            absl::OkStatus());
  EXPECT_EQ(read, content);
  EXPECT_EQ(sha256, Digest(content));
}

TEST_F(PackageFileTest, EmptyFileIsOnePiece) {
  std::ofstream(Path("empty")).flush();
  int pieces = 0;
  EXPECT_EQ(ReadPackage(Path("empty"),
                        [&](const PackagePiece& piece) {
                          ++pieces;
                          EXPECT_EQ(piece.sha256, Digest(""));
                          return true;
                        }),
            absl::OkStatus());
  EXPECT_EQ(pieces, 1);
}

TEST_F(PackageFileTest, WhatIsNotFinishedIsRemoved) {
  { auto writer = PackageWriter::Create(Path("abcd0123"), 10); }
  EXPECT_THAT(Files(), testing::IsEmpty());
  auto writer = PackageWriter::Create(Path("abcd0123"), 3);
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ(writer->Append("abcd").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(writer->Append("ab"), absl::OkStatus());
  EXPECT_EQ(
      writer->Finish(Digest("ab")),
      absl::DataLossError(absl::StrCat(Path("abcd0123"), " was cut short: 2 of 3 bytes came")));
  EXPECT_EQ(writer->Append("c"), absl::OkStatus());
  EXPECT_THAT(std::string(writer->Finish("0000").message()), HasSubstr("arrived damaged"));
}

TEST_F(PackageFileTest, FileBeyondTheLimitIsRefusedBeforeTheTransfer) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 100'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = PackageWriter::Create(Path("abcd0123"), 200'000).status();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(Files(), testing::IsEmpty());
}

TEST_F(PackageFileTest, DirectoryThatFailsIsNamed) {
  std::ofstream(Path("file")) << "x";
  const absl::Status status = PackageWriter::Create(Path("file/abcd0123"), 1).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("file/abcd0123"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("Not a directory"));
  EXPECT_FALSE(PreparePackageDirectory(Path("file/sub")).ok());
  EXPECT_EQ(ReadPackage(Path("none"), [](const auto&) { return true; }).code(),
            absl::StatusCode::kNotFound);
}

TEST_F(PackageFileTest, LeftoversOfADeadProcessAreRemoved) {
  std::ofstream(Path("abcd0123.part-00ff")) << "x";
  std::ofstream(Path("abcd0123")) << "x";
  EXPECT_EQ(PreparePackageDirectory(directory_), absl::OkStatus());
  EXPECT_THAT(Files(), testing::ElementsAre("abcd0123"));
}

TEST_F(PackageFileTest, BuildIdsThatLeaveTheDirectoryAreRefused) {
  EXPECT_EQ(CheckBuildId("0123456789abcdef"), absl::OkStatus());
  for (const char* id : {"", "abc", "../../../etc/passwd", "0123456789ABCDEF", "abcd/0123456"}) {
    EXPECT_EQ(CheckBuildId(id).code(), absl::StatusCode::kInvalidArgument) << id;
  }
}

}  // namespace
}  // namespace muster
