#include "services/coordinator/job/run_files.h"

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "services/base/runtime/executor.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/child.h"

namespace rollcall::coordinator {
namespace {

using testing::Child;
using testing::TempDir;
using testing::WriteLine;

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Full final : public Executor {
 public:
  Status Schedule(std::function<void()>) override { return ResourceExhausted("full"); }
};

TEST_CASE("RunFiles: lines are appended in order, files replaced whole", "[unit][coordinator]") {
  const TempDir dir;
  std::vector<std::string> failures;
  auto executor = MakeThreadPool(1, 100);
  auto files = MakeRunFiles(
      *executor, [&](JobNumber, const Status& status) { failures.push_back(status.ToString()); });
  for (int i = 0; i < 20; ++i) files->AppendLine(1, dir.File("lines"), std::to_string(i));
  files->Replace(1, dir.File("whole"), [] { return std::string("first"); });
  files->Replace(1, dir.File("whole"), [] { return std::string("second"); });
  executor.reset();
  std::string expected;
  for (int i = 0; i < 20; ++i) expected += std::to_string(i) + "\n";
  CHECK(Read(dir.File("lines")) == expected);
  CHECK(Read(dir.File("whole")) == "second");
  CHECK(failures.empty());
}

TEST_CASE("RunFiles: a file that cannot be written fails its job, with the path",
          "[unit][coordinator]") {
  const TempDir dir;
  const std::string path = dir.File("gone/metrics.jsonl");
  JobNumber failed = 0;
  std::string message;
  const auto note = [&](JobNumber job, const Status& status) {
    failed = job;
    message = Message(status);
  };
  InlineExecutor executor;
  auto files = MakeRunFiles(executor, note);
  files->AppendLine(7, path, "line");
  CHECK(failed == 7);
  CHECK(message == path + ": cannot open: No such file or directory");
  files->Replace(8, path, [] { return std::string(); });
  CHECK(failed == 8);
  CHECK(message.find(path) != std::string::npos);

  Full full;
  MakeRunFiles(full, note)->AppendLine(9, path, "line");
  CHECK(failed == 9);
  CHECK(message == path + ": the disk cannot keep up with the writes");
}

TEST_CASE("AppendLineToFile: a line that does not fit is taken back whole", "[unit][coordinator]") {
  const TempDir dir;
  const std::string path = dir.Write("lines", "whole\n");
  Child child([&](int fd) {
    testing::LimitFileSize(10);
    WriteLine(fd, AppendLineToFile(path, "a line of twenty-six bytes").ToString());
    testing::LiftFileSizeLimit();
    WriteLine(fd, AppendLineToFile(path, "next").ToString());
  });
  const std::string refused = child.ReadLine();
  INFO(refused);
  CHECK(refused.find(path + ": cannot write: ") != std::string::npos);
  CHECK(refused.starts_with("RESOURCE_EXHAUSTED"));
  CHECK(child.ReadLine() == "OK");
  CHECK(Read(path) == "whole\nnext\n");
}

}  // namespace
}  // namespace rollcall::coordinator
