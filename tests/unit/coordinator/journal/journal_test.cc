#include "services/coordinator/journal/journal.h"

#include <functional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "services/base/sync/mutex.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/child.h"
#include "tests/unit/coordinator/recorders.h"
#include "tests/unit/coordinator/samples.h"

namespace rollcall::coordinator {
namespace {

using testing::Child;
using testing::RecordingLogger;
using testing::RecordingMetrics;
using testing::SharedTrajectory;
using testing::TempDir;
using testing::TrainSample;
using testing::WriteLine;
using Access = SqliteStore::Access;

constexpr absl::Duration kPatience = absl::Seconds(20);

// Waits for something that other threads do; false when it does not come.
bool WaitUntil(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

std::vector<Record> Generated(int64_t iteration) {
  const SampleId id = TrainSample(iteration, 1, 0);
  return {TrajectoryRecord{id, SharedTrajectory(id, iteration)}};
}

StatusOr<std::unique_ptr<AsyncJournal>> StartJournal(const std::string& path, Logger& logger,
                                                     MetricsRegistry& metrics) {
  ROLLCALL_ASSIGN_OR_RETURN(auto store, SqliteStore::Open(path, Access::kOwner));
  return AsyncJournal::Start({.path = path}, std::move(store), logger, metrics);
}

TEST_CASE("AsyncJournal: tells in order what is durable, and writes what is queued at the end",
          "[unit][coordinator]") {
  const TempDir dir;
  const std::string path = dir.File("journal.db");
  RecordingLogger logger;
  RecordingMetrics metrics;
  Mutex mu;
  std::vector<int64_t> told;
  {
    REQUIRE_OK_AND_ASSIGN(auto journal, StartJournal(path, logger, metrics));
    for (int64_t i = 0; i < 500; ++i) {
      journal->Append(Generated(i), [&mu, &told, i] {
        MutexLock lock(mu);
        told.push_back(i);
      });
    }
  }
  REQUIRE(told.size() == 500);
  CHECK(std::is_sorted(told.begin(), told.end()));
  REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(path, Access::kOwner));
  CHECK(*store->CountSamples(1, v1::SAMPLE_STATE_GENERATED) == 500);
}

TEST_CASE("AsyncJournal: a read sees everything appended before it", "[unit][coordinator]") {
  const TempDir dir;
  RecordingLogger logger;
  RecordingMetrics metrics;
  std::vector<int64_t> seen;
  {
    REQUIRE_OK_AND_ASSIGN(auto journal, StartJournal(dir.File("journal.db"), logger, metrics));
    for (int64_t i = 0; i < 50; ++i) {
      journal->Append(Generated(i), nullptr);
      journal->Read([&](SqliteStore& store) {
        seen.push_back(*store.CountSamples(1, v1::SAMPLE_STATE_GENERATED));
      });
    }
  }
  REQUIRE(seen.size() == 50);
  for (size_t i = 0; i < seen.size(); ++i) CHECK(seen[i] >= static_cast<int64_t>(i) + 1);
}

TEST_CASE("AsyncJournal: the backlog is what waits, and nothing when all is written",
          "[unit][coordinator]") {
  const TempDir dir;
  RecordingLogger logger;
  RecordingMetrics metrics;
  REQUIRE_OK_AND_ASSIGN(auto journal, StartJournal(dir.File("journal.db"), logger, metrics));
  for (int64_t i = 0; i < 20; ++i) journal->Append(Generated(i), nullptr);
  CHECK(WaitUntil([&] {
    return metrics.value("rollcall_coordinator_journal_batch_records") > 0 &&
           metrics.value("rollcall_coordinator_journal_backlog_records") == 0;
  }));
}

TEST_CASE("AsyncJournal: a full disk holds answers back until there is room",
          "[unit][coordinator]") {
  const TempDir dir;
  const std::string path = dir.File("journal.db");
  Child child([&](int fd) {
    RecordingLogger logger;
    RecordingMetrics metrics;
    auto journal = StartJournal(path, logger, metrics);
    if (!journal.ok()) return;
    Mutex mu;
    int64_t durable = 0;
    const auto count = [&] {
      MutexLock lock(mu);
      return durable;
    };
    testing::LimitFileSize(128 << 10);
    for (int64_t i = 0; i < 5000; ++i) {
      (*journal)->Append(Generated(i), [&] {
        MutexLock lock(mu);
        ++durable;
      });
    }
    const bool stuck = WaitUntil([&] { return (*journal)->congested(); });
    WriteLine(fd, stuck && count() < 5000 ? "held back" : "did not notice");
    WriteLine(fd, WaitUntil([&] {
                return metrics.value("rollcall_coordinator_journal_failures_total") >= 2;
              })
                      ? "tries again"
                      : "gave up");
    WriteLine(fd, logger.Contains("the journal cannot be written, trying again: " + path)
                      ? "says so"
                      : "silent");
    testing::LiftFileSizeLimit();
    WriteLine(fd, WaitUntil([&] { return count() == 5000; }) ? "all there" : "lost");
    WriteLine(fd, (*journal)->congested() ? "congested" : "free");
  });
  CHECK(child.ReadLine() == "held back");
  CHECK(child.ReadLine() == "tries again");
  CHECK(child.ReadLine() == "says so");
  CHECK(child.ReadLine() == "all there");
  CHECK(child.ReadLine() == "free");
}

}  // namespace
}  // namespace rollcall::coordinator
