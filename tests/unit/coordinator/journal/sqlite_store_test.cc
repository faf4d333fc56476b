#include "services/coordinator/journal/sqlite_store.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <sqlite3.h>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/child.h"
#include "tests/unit/coordinator/samples.h"

namespace rollcall::coordinator {
namespace {

using testing::Child;
using testing::Failed;
using testing::Reward;
using testing::SharedTrajectory;
using testing::TempDir;
using testing::TrainSample;
using testing::WriteLine;
using Access = SqliteStore::Access;

const absl::Time kTime = absl::FromUnixSeconds(1'700'000'000);

std::unique_ptr<SqliteStore> OpenOwner(const std::string& path) {
  REQUIRE_OK_AND_ASSIGN(auto store, SqliteStore::Open(path, Access::kOwner));
  return store;
}

JobRecord Job(JobNumber number) {
  auto spec = std::make_shared<v1::JobSpec>();
  spec->mutable_run()->set_name("job" + std::to_string(number));
  return {.job = number,
          .request_id = "request-" + std::to_string(number),
          .spec = spec,
          .source_yaml = "run: {name: job}\n",
          .run_dir = "/runs/job-" + JobId(number),
          .data_hash = "aa",
          .evaluate_hash = "bb"};
}

// Two samples of one iteration, all the way into a committed step.
std::vector<Record> WholeStep(int64_t step) {
  std::vector<Record> records;
  for (int32_t index = 0; index < 2; ++index) {
    const SampleId id = TrainSample(step - 1, 3, index);
    records.push_back(TrajectoryRecord{id, SharedTrajectory(id, step - 1)});
    records.push_back(ScoreRecord{id, Reward(id, 0.25 * static_cast<double>(index))});
  }
  records.push_back(BatchRecord{1, step, 2, kTime});
  records.push_back(StepRecord{.job = 1,
                               .step = step,
                               .epoch = 1,
                               .num_samples = 2,
                               .optimizer_updates = 1,
                               .time = kTime,
                               .metrics = {{"loss", 0.5}}});
  return records;
}

Status Apply(SqliteStore& store, const Record& record) { return store.Apply({&record, 1}); }

// Everything that a coordinator reads back, as text.
std::string Dump(SqliteStore& store) {
  std::string text;
  const auto jobs = store.LoadJobs();
  REQUIRE_OK(jobs.status());
  for (const StoredJob& job : *jobs) {
    text += JobId(job.record.job) + job.record.request_id + job.record.spec->ShortDebugString() +
            job.record.source_yaml + job.record.run_dir + job.record.data_hash +
            job.record.evaluate_hash + job.status.ShortDebugString() + "\n";
  }
  for (const auto purpose : {v1::SAMPLE_PURPOSE_TRAIN, v1::SAMPLE_PURPOSE_EVALUATE}) {
    const auto samples =
        store.LoadSamples({.job = 1, .purpose = purpose, .max_iteration = INT64_MAX});
    REQUIRE_OK(samples.status());
    for (const StoredSample& s : *samples) {
      text += std::to_string(s.id.iteration) + "/" + std::to_string(s.id.prompt_id) + "/" +
              std::to_string(s.id.sample_index) + " " + v1::SampleState_Name(s.state) + " " +
              std::to_string(s.step) + " " + std::to_string(s.preference_rank) + " " +
              (s.trajectory == nullptr ? "-" : s.trajectory->ShortDebugString()) + " " +
              (s.score == nullptr ? "-" : s.score->ShortDebugString()) + "\n";
    }
  }
  const auto steps = store.LoadSteps(1, 0, 1000);
  REQUIRE_OK(steps.status());
  for (const StepRecord& s : *steps) {
    text += "step " + std::to_string(s.step) + " " + std::to_string(s.epoch) + " " +
            std::to_string(s.num_samples) + " " + std::to_string(s.optimizer_updates) + " " +
            absl::FormatTime(s.time);
    for (const auto& [key, value] : s.metrics) text += " " + key + "=" + std::to_string(value);
    text += "\n";
  }
  const auto batches = store.LoadBatches(1, 0);
  REQUIRE_OK(batches.status());
  for (const auto& [step, num_samples] : *batches) {
    text += "batch " + std::to_string(step) + " " + std::to_string(num_samples) + "\n";
  }
  const auto checkpoint = store.LastCheckpoint(1);
  REQUIRE_OK(checkpoint.status());
  text += "checkpoint " + std::to_string(checkpoint->step) + " " + checkpoint->directory + "\n";
  const auto evaluations = store.LoadEvaluations(1);
  REQUIRE_OK(evaluations.status());
  for (const StoredEvaluation& e : *evaluations) {
    text += "evaluation " + e.result.ShortDebugString() + absl::FormatTime(e.time) + "\n";
  }
  const auto receipts = store.LoadReceipts(1);
  REQUIRE_OK(receipts.status());
  for (const StoredReceipt& r : *receipts) {
    text +=
        "receipt " + r.worker_name + " " + std::to_string(r.policy_version) + " " + r.hash + "\n";
  }
  return text;
}

std::vector<Record> OneOfEach() {
  std::vector<Record> records = {Job(1), Job(2)};
  v1::JobStatus status;
  status.set_job_id(JobId(1));
  status.set_state(v1::JOB_STATE_RUNNING);
  status.set_step(1);
  status.set_epoch(3);
  records.push_back(JobStatusRecord{1, status});
  for (Record& record : WholeStep(1)) records.push_back(std::move(record));
  const SampleId generated = TrainSample(1, 4, 0);
  const SampleId failed = TrainSample(1, 4, 1);
  SampleId evaluated = TrainSample(1, 4, 0);
  evaluated.purpose = v1::SAMPLE_PURPOSE_EVALUATE;
  records.push_back(TrajectoryRecord{generated, SharedTrajectory(generated, 1)});
  records.push_back(ScoreRecord{failed, Failed(failed, "too_long")});
  records.push_back(TrajectoryRecord{evaluated, SharedTrajectory(evaluated, 1)});
  records.push_back(ReplayRecord{1, 1, 3, kTime});
  records.push_back(CheckpointRecord{1, 1, "/runs/job-j000001/checkpoints/1"});
  v1::EvaluationResult result;
  result.set_policy_version(0);
  result.set_accuracy(0.5);
  records.push_back(EvaluationRecord{1, result, kTime});
  records.push_back(ReceiptRecord{1, "rollout-0", 1, std::string("\0\1\2", 3)});
  return records;
}

// Runs statements on the file behind the store's back.
void Damage(const std::string& path, const std::string& sql) {
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  char* message = nullptr;
  const int code = sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &message);
  INFO(sql << ": " << (message == nullptr ? "" : message));
  sqlite3_free(message);
  sqlite3_close(db);
  REQUIRE(code == SQLITE_OK);
}

void CheckRefused(const Status& status, StatusCode code, const std::string& path,
                  const std::string& part) {
  INFO(status.ToString());
  CHECK(status.code() == code);
  CHECK(Message(status).find(path) != std::string::npos);
  CHECK(Message(status).find(part) != std::string::npos);
}

TEST_CASE("SqliteStore: what was applied is there again after a reopen", "[unit][coordinator]") {
  const TempDir dir;
  const std::string path = dir.File("journal.db");
  std::string before;
  {
    auto store = OpenOwner(path);
    REQUIRE_OK(store->Apply(OneOfEach()));
    before = Dump(*store);
  }
  CHECK(before.find("SAMPLE_STATE_CONSUMED 1") != std::string::npos);
  CHECK(before.find("SAMPLE_STATE_GENERATED 0") != std::string::npos);
  CHECK(before.find("SAMPLE_STATE_FAILED 0") != std::string::npos);
  CHECK(Dump(*OpenOwner(path)) == before);
  REQUIRE_OK_AND_ASSIGN(auto reader, SqliteStore::Open(path, Access::kReader));
  CHECK(Dump(*reader) == before);
}

TEST_CASE("SqliteStore: a killed process loses nothing that it was told is there",
          "[unit][coordinator]") {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    INFO("seed " << seed);
    CounterRandom random(seed);
    const TempDir dir;
    const std::string path = dir.File("journal.db");
    const int64_t kill_after = 1 + static_cast<int64_t>(random.Below(60));
    {
      Child child([&](int fd) {
        auto store = SqliteStore::Open(path, Access::kOwner);
        if (!store.ok() || !Apply(**store, Job(1)).ok()) return;
        for (int64_t step = 1;; ++step) {
          if (!(*store)->Apply(WholeStep(step)).ok()) return;
          WriteLine(fd, std::to_string(step));
        }
      });
      for (int64_t step = 1; step <= kill_after; ++step) {
        REQUIRE(child.ReadLine() == std::to_string(step));
      }
      child.Kill();
    }
    auto store = OpenOwner(path);
    REQUIRE_OK_AND_ASSIGN(const auto steps, store->LoadSteps(1, 1, INT64_MAX));
    REQUIRE(static_cast<int64_t>(steps.size()) >= kill_after);
    // A step is there with all of its samples or not at all.
    REQUIRE_OK_AND_ASSIGN(const auto samples,
                          store->LoadSamples({.job = 1, .max_iteration = INT64_MAX}));
    REQUIRE(samples.size() == 2 * steps.size());
    for (const StoredSample& sample : samples) {
      REQUIRE(sample.state == v1::SAMPLE_STATE_CONSUMED);
      REQUIRE(sample.step == sample.id.iteration + 1);
      REQUIRE(sample.trajectory != nullptr);
      REQUIRE(sample.score != nullptr);
    }
    REQUIRE_OK(store->Apply(WholeStep(static_cast<int64_t>(steps.size()) + 1)));
  }
}

TEST_CASE("SqliteStore: incarnations count up over reopens", "[unit][coordinator]") {
  const TempDir dir;
  for (int64_t expected = 1; expected <= 3; ++expected) {
    REQUIRE_OK_AND_ASSIGN(const int64_t incarnation,
                          OpenOwner(dir.File("journal.db"))->NextIncarnation());
    CHECK(incarnation == expected);
  }
}

TEST_CASE("SqliteStore: records apply all or not at all", "[unit][coordinator]") {
  auto store = OpenOwner(":memory:");
  REQUIRE_OK(Apply(*store, Job(1)));
  REQUIRE_OK(store->Apply(WholeStep(1)));
  const std::string before = Dump(*store);

  const SampleId id = TrainSample(1, 3, 0);
  const SampleId used = TrainSample(0, 3, 0);
  const Record good = TrajectoryRecord{id, SharedTrajectory(id, 1)};
  struct Case {
    const char* what;
    Record record;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"a trajectory twice", TrajectoryRecord{id, SharedTrajectory(id, 1)}, "UNIQUE"},
      {"a score of a sample that trained", ScoreRecord{used, Reward(used, 1)}, "not awaited"},
      {"the expiry of a sample that trained", ExpireRecord{used}, "cannot expire"},
      {"the expiry of a sample that is not there", ExpireRecord{TrainSample(9, 9, 9)},
       "cannot expire"},
      {"a batch of samples without a score", BatchRecord{1, 2, 1, kTime},
       "has 1 samples, the journal has 0"},
      {"a batch formed twice", BatchRecord{1, 1, 0, kTime}, "UNIQUE"},
      {"a step without a batch", StepRecord{.job = 1, .step = 2, .num_samples = 1, .time = kTime},
       "consumes 1 samples, the journal has 0"},
      {"a step twice", StepRecord{.job = 1, .step = 1, .num_samples = 0, .time = kTime}, "UNIQUE"},
      {"a job twice", Job(1), "UNIQUE"},
  };
  for (const Case& one : cases) {
    INFO(one.what);
    const std::vector<Record> records = {good, one.record};
    const Status status = store->Apply(records);
    INFO(status.ToString());
    CHECK(status.code() == StatusCode::kDataLoss);
    CHECK(Message(status).find(one.message) != std::string::npos);
    CHECK(Dump(*store) == before);
  }
  REQUIRE_OK(Apply(*store, good));
}

TEST_CASE("SqliteStore: an expired sample is made again and trains once", "[unit][coordinator]") {
  auto store = OpenOwner(":memory:");
  const SampleId id = TrainSample(0, 3, 0);
  REQUIRE_OK(store->Apply(std::vector<Record>{TrajectoryRecord{id, SharedTrajectory(id, 0)},
                                              ScoreRecord{id, Reward(id, 1)}, ExpireRecord{id}}));
  CHECK(*store->CountSamples(1, v1::SAMPLE_STATE_SCORED) == 0);
  REQUIRE_OK(store->Apply(std::vector<Record>{TrajectoryRecord{id, SharedTrajectory(id, 0)},
                                              ScoreRecord{id, Reward(id, 1)},
                                              BatchRecord{1, 1, 1, kTime}}));
  CHECK(*store->CountSamples(1, v1::SAMPLE_STATE_BATCHED) == 1);
  CHECK(Apply(*store, ExpireRecord{id}).code() == StatusCode::kDataLoss);
}

TEST_CASE("SqliteStore: pages, limits and the newest receipts", "[unit][coordinator]") {
  auto store = OpenOwner(":memory:");
  for (int64_t step = 1; step <= 20; ++step) {
    REQUIRE_OK(store->Apply(WholeStep(step)));
    REQUIRE_OK(Apply(*store, ReceiptRecord{1, "rollout-0", step, "hash"}));
  }
  REQUIRE_OK_AND_ASSIGN(const auto page, store->LoadSteps(1, 5, 3));
  REQUIRE(page.size() == 3);
  CHECK(page[0].step == 5);
  CHECK(page[2].step == 7);
  CHECK(page[0].metrics == std::map<std::string, double>{{"loss", 0.5}});
  CHECK(page[0].time == kTime);
  CHECK(store->LoadSteps(2, 1, 3)->empty());
  REQUIRE_OK_AND_ASSIGN(const auto samples,
                        store->LoadSamples({.job = 1, .max_iteration = INT64_MAX, .limit = 3}));
  CHECK(samples.size() == 3);
  REQUIRE_OK_AND_ASSIGN(const auto none,
                        store->LoadSamples({.job = 1, .max_iteration = INT64_MAX, .prompt_id = 4}));
  CHECK(none.empty());
  REQUIRE_OK_AND_ASSIGN(const auto receipts, store->LoadReceipts(1));
  REQUIRE(receipts.size() == 9);
  CHECK(receipts.front().policy_version == 12);
}

TEST_CASE("SqliteStore: a journal of another schema version is refused", "[unit][coordinator]") {
  const TempDir dir;
  const std::string path = dir.File("journal.db");
  OpenOwner(path);
  for (const std::string version : {"2", "77", "-1"}) {
    Damage(path, "PRAGMA user_version=" + version);
    CheckRefused(SqliteStore::Open(path, Access::kOwner).status(), StatusCode::kDataLoss, path,
                 "schema version " + version + ", this coordinator reads version 1");
  }
  Damage(path, "PRAGMA user_version=1");
  OpenOwner(path);
}

TEST_CASE("SqliteStore: the database of another program is refused and left alone",
          "[unit][coordinator]") {
  const TempDir dir;
  const std::string path = dir.File("other.db");
  Damage(path, "CREATE TABLE notes(text TEXT); INSERT INTO notes VALUES('keep')");
  std::ifstream before_file(path, std::ios::binary);
  const std::string before((std::istreambuf_iterator<char>(before_file)), {});
  CheckRefused(SqliteStore::Open(path, Access::kOwner).status(), StatusCode::kDataLoss, path,
               "not a journal");
  std::ifstream after_file(path, std::ios::binary);
  const std::string after((std::istreambuf_iterator<char>(after_file)), {});
  CHECK(after == before);
}

TEST_CASE("SqliteStore: files that are no database are refused", "[unit][coordinator]") {
  const TempDir dir;
  const std::string garbage = dir.Write("garbage.db", std::string(8192, 'x'));
  CheckRefused(SqliteStore::Open(garbage, Access::kOwner).status(), StatusCode::kDataLoss, garbage,
               "not a database");
  const std::string absent = dir.File("no/such/folder/journal.db");
  CheckRefused(SqliteStore::Open(absent, Access::kOwner).status(), StatusCode::kUnavailable, absent,
               "cannot open");
  CheckRefused(SqliteStore::Open(dir.path().string(), Access::kOwner).status(),
               StatusCode::kUnavailable, dir.path().string(), "cannot open");
  const std::string missing = dir.File("absent.db");
  CheckRefused(SqliteStore::Open(missing, Access::kReader).status(), StatusCode::kUnavailable,
               missing, "cannot open");
}

TEST_CASE("SqliteStore: damaged pages are an error, never an empty answer", "[unit][coordinator]") {
  const TempDir dir;
  const std::string path = dir.File("journal.db");
  {
    auto store = OpenOwner(path);
    REQUIRE_OK(Apply(*store, Job(1)));
    for (int64_t step = 1; step <= 200; ++step) REQUIRE_OK(store->Apply(WholeStep(step)));
  }
  const auto size = std::filesystem::file_size(path);
  REQUIRE(size > 20 * 4096);

  const auto read_all = [](const std::string& file) -> Status {
    ROLLCALL_ASSIGN_OR_RETURN(auto store, SqliteStore::Open(file, Access::kOwner));
    ROLLCALL_RETURN_IF_ERROR(store->LoadJobs().status());
    ROLLCALL_RETURN_IF_ERROR(store->LoadSamples({.job = 1, .max_iteration = INT64_MAX}).status());
    return store->LoadSteps(1, 1, INT64_MAX).status();
  };
  REQUIRE_OK(read_all(path));

  const std::string truncated = dir.File("truncated.db");
  std::filesystem::copy_file(path, truncated);
  std::filesystem::resize_file(truncated, size / 2 / 4096 * 4096);
  CheckRefused(read_all(truncated), StatusCode::kDataLoss, truncated, "malformed");

  const std::string overwritten = dir.File("overwritten.db");
  std::filesystem::copy_file(path, overwritten);
  {
    std::fstream file(overwritten, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096 * 2);
    file << std::string(size - 4096 * 2, '\x5a');
  }
  CheckRefused(read_all(overwritten), StatusCode::kDataLoss, overwritten, "malformed");
}

TEST_CASE("SqliteStore: a message that does not parse is an error that names its row",
          "[unit][coordinator]") {
  struct Case {
    const char* sql;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"UPDATE jobs SET spec = x'ff' WHERE job = 1", "the spec of j000001 does not parse"},
      {"UPDATE jobs SET status = x'ff' WHERE job = 1", "the status of j000001 does not parse"},
      {"UPDATE trajectories SET data = x'ff' WHERE iteration = 0",
       "the trajectory of j000001 iteration 0 prompt 3 index 0 does not parse"},
      {"UPDATE scores SET data = x'ff' WHERE iteration = 0",
       "the score of j000001 iteration 0 prompt 3 index 0 does not parse"},
      {"UPDATE steps SET metrics = x'ff'", "the metrics of j000001 step 1 do not parse"},
      {"UPDATE evaluations SET result = x'ff'", "an evaluation of j000001 does not parse"},
  };
  for (const Case& one : cases) {
    INFO(one.sql);
    const TempDir dir;
    const std::string path = dir.File("journal.db");
    REQUIRE_OK(OpenOwner(path)->Apply(OneOfEach()));
    Damage(path, one.sql);
    auto store = OpenOwner(path);
    Status status = store->LoadJobs().status();
    if (status.ok()) {
      status = store->LoadSamples({.job = 1, .max_iteration = INT64_MAX}).status();
    }
    if (status.ok()) status = store->LoadSteps(1, 1, 100).status();
    if (status.ok()) status = store->LoadEvaluations(1).status();
    CheckRefused(status, StatusCode::kDataLoss, path, one.message);
  }
}

TEST_CASE("SqliteStore: a full disk is named, and is no disaster once there is room",
          "[unit][coordinator]") {
  const TempDir dir;
  const std::string path = dir.File("journal.db");
  Child child([&](int fd) {
    auto store = SqliteStore::Open(path, Access::kOwner);
    if (!store.ok() || !Apply(**store, Job(1)).ok()) return;
    testing::LimitFileSize(256 << 10);
    Status status;
    int64_t step = 0;
    while (status.ok() && step < 10'000) status = (*store)->Apply(WholeStep(++step));
    WriteLine(fd, status.ToString());
    WriteLine(fd, (*store)->Apply(WholeStep(step)).ToString());
    testing::LiftFileSizeLimit();
    WriteLine(fd, (*store)->Apply(WholeStep(step)).ToString());
    const auto steps = (*store)->LoadSteps(1, 1, INT64_MAX);
    WriteLine(fd, steps.ok() && static_cast<int64_t>(steps->size()) == step ? "whole" : "broken");
  });
  for (int attempt = 0; attempt < 2; ++attempt) {
    const std::string refused = child.ReadLine();
    INFO(refused);
    CHECK(refused.starts_with("RESOURCE_EXHAUSTED: " + path));
    CHECK(refused.find("disk I/O error while writing") != std::string::npos);
  }
  CHECK(child.ReadLine() == "OK");
  CHECK(child.ReadLine() == "whole");
}

}  // namespace
}  // namespace rollcall::coordinator
