#include "services/common/storage/files.h"

#include <signal.h>

#include <atomic>
#include <filesystem>
#include <thread>
#include <vector>

#include <sys/resource.h>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

constexpr uint64_t kEnough = 1 << 20;

size_t NumFiles(const std::filesystem::path& directory) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory),
                                           std::filesystem::directory_iterator()));
}

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST_CASE("files: what is written is read back, and nothing else is left", "[unit][storage]") {
  const testing::TempDir dir;
  const std::string path = dir.File("state.json");
  const std::string content = std::string("line\n\0binary\xff", 14);
  REQUIRE_OK(WriteFileAtomic(path, "an older and much longer content of the same file"));
  REQUIRE_OK(WriteFileAtomic(path, content));
  REQUIRE_OK_AND_ASSIGN(const std::string read, ReadFile(path, kEnough));
  CHECK(read == content);
  CHECK(NumFiles(dir.path()) == 1);
}

TEST_CASE("files: pieces are written as one file", "[unit][storage]") {
  const testing::TempDir dir;
  const std::vector<std::string_view> pieces = {"header ", "", "tensor a ", "tensor b"};
  REQUIRE_OK(WritePiecesAtomic(dir.File("weights"), pieces));
  REQUIRE_OK_AND_ASSIGN(const std::string read, ReadFile(dir.File("weights"), kEnough));
  CHECK(read == "header tensor a tensor b");
}

TEST_CASE("files: empty files and files without a size in stat are read whole", "[unit][storage]") {
  const testing::TempDir dir;
  REQUIRE_OK(WriteFileAtomic(dir.File("empty"), ""));
  REQUIRE_OK_AND_ASSIGN(const std::string empty, ReadFile(dir.File("empty"), 0));
  CHECK(empty.empty());
  REQUIRE_OK_AND_ASSIGN(const std::string status, ReadFile("/proc/self/status", kEnough));
  CHECK(status.find("VmRSS") != std::string::npos);
}

TEST_CASE("files: the size limit is exact", "[unit][storage]") {
  const testing::TempDir dir;
  const std::string path = dir.Write("ten", "0123456789");
  REQUIRE_OK(ReadFile(path, 10).status());
  const Status refused = ReadFile(path, 9).status();
  CHECK(refused.code() == StatusCode::kResourceExhausted);
  CHECK(Message(refused).find(path) != std::string::npos);
}

TEST_CASE("files: failures are typed and name the path", "[unit][storage]") {
  const testing::TempDir dir;
  const std::string missing = dir.File("missing");
  const Status not_found = ReadFile(missing, kEnough).status();
  CHECK(not_found.code() == StatusCode::kNotFound);
  CHECK(Message(not_found).find(missing) != std::string::npos);
  CHECK(ReadFile(dir.path().string(), kEnough).status().code() == StatusCode::kInvalidArgument);
  CHECK(WriteFileAtomic(dir.File("no/such/directory"), "x").code() == StatusCode::kNotFound);
  const std::string file = dir.Write("file", "x");
  CHECK(MakeDirectories(file + "/below").code() == StatusCode::kInvalidArgument);
}

TEST_CASE("files: a failed write leaves the target and no temporary", "[unit][storage]") {
  const testing::TempDir dir;
  const std::string target = dir.File("occupied");
  REQUIRE_OK(MakeDirectories(target + "/child"));
  const Status status = WriteFileAtomic(target, "a directory cannot be replaced by a file");
  CHECK_FALSE(status.ok());
  CHECK(Message(status).find(target) != std::string::npos);
  CHECK(std::filesystem::is_directory(target + "/child"));
  CHECK(NumFiles(dir.path()) == 1);
}

// Lets no file of this process grow beyond the bound: a disk that fills up in the middle of a
// write.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_before_ = ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_before_);
  }

 private:
  rlimit before_{};
  sighandler_t handler_before_ = nullptr;
};

TEST_CASE("files: a write that runs out of room keeps the old file", "[unit][storage]") {
  const testing::TempDir dir;
  const std::string path = dir.Write("checkpoint", "last good");
  Status status;
  {
    const FileSizeLimit limit(4096);
    status = WriteFileAtomic(path, std::string(10000, 'x'));
  }
  CHECK(status.code() == StatusCode::kResourceExhausted);
  CHECK(Message(status).find(path) != std::string::npos);
  REQUIRE_OK_AND_ASSIGN(const std::string read, ReadFile(path, kEnough));
  CHECK(read == "last good");
  CHECK(NumFiles(dir.path()) == 1);
}

TEST_CASE("files: readers see one of the contents while writers race", "[unit][storage]") {
  const testing::TempDir dir;
  const std::string path = dir.File("contested");
  const std::vector<std::string> contents = {std::string(20000, 'a'), std::string(30000, 'b')};
  REQUIRE_OK(WriteFileAtomic(path, contents[0]));
  std::atomic<int> failures{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> writers;
  for (const std::string& content : contents) {
    writers.emplace_back([&] {
      for (int i = 0; i < 50; ++i) failures += WriteFileAtomic(path, content).ok() ? 0 : 1;
    });
  }
  std::atomic<int> torn{0};
  std::thread reader([&] {
    while (!done) {
      const StatusOr<std::string> read = ReadFile(path, kEnough);
      if (!read.ok() || (*read != contents[0] && *read != contents[1])) ++torn;
    }
  });
  for (std::thread& writer : writers) writer.join();
  done = true;
  reader.join();
  CHECK(failures.load() == 0);
  CHECK(torn.load() == 0);
  CHECK(NumFiles(dir.path()) == 1);
}

// Known answers: XXH3_64bits and XXH3_128bits with seed 0, from the reference implementation's
// command line tool (xxhsum -H3, xxhsum -H2).
TEST_CASE("hashes: XXH3 in canonical form", "[unit][storage]") {
  CHECK(HashBytes64({}) == 0x2d06800538d394c2u);
  CHECK(HexString(HashBytes128({})) == "99aa06d3014798d86001c324468d497f");
  CHECK(HashBytes64(Bytes("a")) == 0xe6c632b61e964e1fu);
  CHECK(HashBytes64(Bytes("abc")) == 0x78af5f94892f3950u);
  CHECK(HexString(HashBytes128(Bytes("abc"))) == "06b05ab6733a618578af5f94892f3950");
}

TEST_CASE("HexString: lower case, two digits a byte", "[unit][storage]") {
  const std::vector<uint8_t> bytes = {0x00, 0x0f, 0xa5, 0xff};
  CHECK(HexString(bytes) == "000fa5ff");
}

}  // namespace
}  // namespace rollcall
