// The journal's tables in one SQLite database (WAL, synchronous=NORMAL).
//
//   jobs          one row a job: spec, source, run directory, status
//   samples       one row a sample: state, step that trains it, reason of a failure
//   trajectories  tokens of a sample         scores   what its scorers said
//   batches       formed batches             steps    committed steps with their metrics
//   replays, checkpoints, evaluations, receipts, meta
//
// The states of a sample only move forward, and the store checks it: a batch takes exactly the
// samples that are SCORED, a step consumes exactly the samples that its batch took.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "services/base/status/status.h"
#include "services/coordinator/journal/records.h"

struct sqlite3;
struct sqlite3_stmt;

namespace rollcall::coordinator {

struct StoredJob {
  JobRecord record;
  v1::JobStatus status;
};

struct StoredSample {
  SampleId id;
  v1::SampleState state = v1::SAMPLE_STATE_UNSPECIFIED;
  int64_t step = 0;
  int32_t preference_rank = -1;
  std::shared_ptr<const v1::Trajectory> trajectory;  // null when it was never made
  std::shared_ptr<const v1::Score> score;            // null before it was scored
};

struct StoredCheckpoint {
  int64_t step = 0;
  std::string directory;
};

struct StoredReceipt {
  std::string worker_name;
  int64_t policy_version = 0;
  std::string hash;
};

struct StoredEvaluation {
  v1::EvaluationResult result;
  absl::Time time;
};

struct SampleQuery {
  JobNumber job = 0;
  v1::SamplePurpose purpose = v1::SAMPLE_PURPOSE_TRAIN;
  int64_t min_iteration = 0;
  int64_t max_iteration = 0;  // inclusive
  std::optional<int64_t> prompt_id;
  int64_t limit = -1;  // no limit
};

// Not thread-safe: one store is one connection of one thread.
class SqliteStore {
 public:
  // Opens or creates. ":memory:" is private to this store. kUnavailable names the path when it
  // cannot be opened; kDataLoss when it is no journal of this schema version. Nothing here keeps a
  // second owner away: see StateLock.
  enum class Access { kOwner, kReader };
  static StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& path, Access access);
  ~SqliteStore();
  SqliteStore(const SqliteStore&) = delete;
  SqliteStore& operator=(const SqliteStore&) = delete;

  // All records in one transaction, or none. kResourceExhausted: disk full; kDataLoss: a record
  // contradicts what is stored (a broken invariant of the caller).
  Status Apply(std::span<const Record> records);

  // Counts the starts of coordinators over this store, from 1. Durable when it returns.
  StatusOr<int64_t> NextIncarnation();

  // What is stored. kDataLoss names the row that is damaged.
  StatusOr<std::vector<StoredJob>> LoadJobs();
  // In the order iteration, prompt, sample index.
  StatusOr<std::vector<StoredSample>> LoadSamples(const SampleQuery& query);
  StatusOr<std::vector<StepRecord>> LoadSteps(JobNumber job, int64_t from_step, int64_t limit);
  // Formed batches from a step on: step and number of samples.
  StatusOr<std::vector<std::pair<int64_t, int64_t>>> LoadBatches(JobNumber job, int64_t from_step);
  StatusOr<StoredCheckpoint> LastCheckpoint(JobNumber job);
  StatusOr<std::vector<StoredEvaluation>> LoadEvaluations(JobNumber job);
  StatusOr<std::vector<StoredReceipt>> LoadReceipts(JobNumber job);
  // Number of training samples of a job in a state.
  StatusOr<int64_t> CountSamples(JobNumber job, v1::SampleState state);

 private:
  class Statement;
  SqliteStore() = default;

  Status Execute(const char* sql);
  // The one number that a query gives.
  StatusOr<int64_t> Number(const char* sql);
  // A prepared statement of this store, reset and ready to bind.
  StatusOr<sqlite3_stmt*> Prepare(const char* sql);
  Status Error(const char* what) const;

  Status ApplyOne(const JobRecord& record);
  Status ApplyOne(const JobStatusRecord& record);
  Status ApplyOne(const TrajectoryRecord& record);
  Status ApplyOne(const ScoreRecord& record);
  Status ApplyOne(const ExpireRecord& record);
  Status ApplyOne(const DatasetRecord& record);
  Status ApplyOne(const BatchRecord& record);
  Status ApplyOne(const StepRecord& record);
  Status ApplyOne(const ReplayRecord& record);
  Status ApplyOne(const CheckpointRecord& record);
  Status ApplyOne(const EvaluationRecord& record);
  Status ApplyOne(const ReceiptRecord& record);

  sqlite3* db_ = nullptr;
  std::string path_;
  std::vector<std::pair<const char*, sqlite3_stmt*>> statements_;
  std::string scratch_;
};

}  // namespace rollcall::coordinator
