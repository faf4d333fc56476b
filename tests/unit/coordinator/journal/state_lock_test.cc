#include "services/coordinator/journal/state_lock.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/child.h"

namespace rollcall::coordinator {
namespace {

using testing::Child;
using testing::TempDir;
using testing::WriteLine;

TEST_CASE("StateLock: a second coordinator on a state directory is refused",
          "[unit][coordinator]") {
  const TempDir dir;
  const std::string state = dir.File("deep/state");  // made when missing
  REQUIRE_OK_AND_ASSIGN(auto first, StateLock::Acquire(state));
  const Status second = StateLock::Acquire(state).status();
  CHECK(second.code() == StatusCode::kUnavailable);
  CHECK(Message(second) == state + ": another coordinator runs on this state directory");
  REQUIRE_OK(StateLock::Acquire(dir.File("other")).status());
  first.reset();
  REQUIRE_OK(StateLock::Acquire(state).status());
}

TEST_CASE("StateLock: goes with the process that held it", "[unit][coordinator]") {
  const TempDir dir;
  const std::string state = dir.File("state");
  Child child([&](int fd) {
    const auto lock = StateLock::Acquire(state);
    WriteLine(fd, lock.ok() ? "held" : lock.status().ToString());
    pause();
  });
  REQUIRE(child.ReadLine() == "held");
  CHECK(StateLock::Acquire(state).status().code() == StatusCode::kUnavailable);
  child.Kill();
  REQUIRE_OK(StateLock::Acquire(state).status());
}

TEST_CASE("StateLock: a directory that cannot be made is named", "[unit][coordinator]") {
  const TempDir dir;
  const std::string file = dir.Write("file", "x");
  const Status status = StateLock::Acquire(file + "/state").status();
  INFO(status.ToString());
  CHECK_FALSE(status.ok());
  CHECK(Message(status).find(file) != std::string::npos);
}

}  // namespace
}  // namespace rollcall::coordinator
