// What the journal remembers. The core appends records in the order of its decisions; replaying
// the store after a crash rebuilds everything that was promised to anybody.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "rollcall/v1/coordinator.pb.h"
#include "rollcall/v1/job.pb.h"
#include "rollcall/v1/sample.pb.h"
#include "services/coordinator/types.h"

namespace rollcall::coordinator {

// A job was admitted.
struct JobRecord {
  JobNumber job = 0;
  std::string request_id;
  std::shared_ptr<const v1::JobSpec> spec;
  std::string source_yaml;
  std::string run_dir;
  // Hex XXH3-128 of the data and evaluation files, so that a restart notices a changed file.
  std::string data_hash;
  std::string evaluate_hash;
};

// State, reason, times and counters of a job; replaces the one before.
struct JobStatusRecord {
  JobNumber job = 0;
  v1::JobStatus status;
};

// A trajectory was accepted: the sample is GENERATED.
struct TrajectoryRecord {
  SampleId id;
  std::shared_ptr<const v1::Trajectory> trajectory;
};

// A score was accepted: the sample is SCORED, or FAILED when the score is a failure. Also records
// a sample that failed before it was scored.
struct ScoreRecord {
  SampleId id;
  std::shared_ptr<const v1::Score> score;
};

// A generated sample is dropped for its staleness and will be made again.
struct ExpireRecord {
  SampleId id;
};

// Rows of a data set enter as SCORED samples of one iteration. The preference rank of a row is its
// sample index in a pair.
struct DatasetRecord {
  JobNumber job = 0;
  int64_t iteration = 0;
  std::vector<std::shared_ptr<const v1::PromptGroup>> groups;
};

// The SCORED samples of iteration step - 1 became the batch of `step`.
struct BatchRecord {
  JobNumber job = 0;
  int64_t step = 0;
  int64_t num_samples = 0;
  absl::Time time;
};

// A step was committed: its samples are CONSUMED.
struct StepRecord {
  JobNumber job = 0;
  int64_t step = 0;
  int64_t epoch = 0;
  int64_t num_samples = 0;
  int32_t optimizer_updates = 0;
  absl::Time time;
  std::map<std::string, double> metrics;
};

// A committed step was run again over the same batch after a resume. For people.
struct ReplayRecord {
  JobNumber job = 0;
  int64_t step = 0;
  int64_t epoch = 0;
  absl::Time time;
};

struct CheckpointRecord {
  JobNumber job = 0;
  int64_t step = 0;
  std::string directory;
};

struct EvaluationRecord {
  JobNumber job = 0;
  v1::EvaluationResult result;
  absl::Time time;
};

// A process, by its stable name, holds a version of the policy.
struct ReceiptRecord {
  JobNumber job = 0;
  std::string worker_name;
  int64_t policy_version = 0;
  std::string hash;
};

using Record = std::variant<JobRecord, JobStatusRecord, TrajectoryRecord, ScoreRecord, ExpireRecord,
                            DatasetRecord, BatchRecord, StepRecord, ReplayRecord, CheckpointRecord,
                            EvaluationRecord, ReceiptRecord>;

}  // namespace rollcall::coordinator
