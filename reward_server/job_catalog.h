// What the server knows about the jobs whose samples it scores: scorers, tokenizer, field names.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "reward_server/scoring/bound_scorer.h"
#include "reward_server/scoring/types.h"
#include "rollcall/v1/job.pb.h"
#include "services/base/runtime/clock.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"
#include "services/common/text/tokenizer.h"

namespace rollcall {

struct JobScorer {
  std::string name;
  double weight = 1.0;
  absl::Duration timeout;
  int max_retries = 0;
  std::shared_ptr<const BoundScorer> scorer;
};

// Immutable.
struct JobContext {
  std::string answer_column;  // of data.columns; empty takes the usual ones
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<JobScorer> reward;
  std::vector<JobScorer> evaluate;  // those of the reward when the job names none
};

// A context, or why the job's samples cannot be scored.
struct JobContextOr {
  std::shared_ptr<const JobContext> context;
  ScoreFailure failure;  // when context is null
};

// Thread-safe.
class JobCatalog {
 public:
  using FetchSpec = std::function<StatusOr<v1::JobSpec>(const std::string& job_id)>;

  // `fetch_spec` blocks with a deadline of its own. At most `max_jobs` contexts are kept.
  JobCatalog(FetchSpec fetch_spec, ScorerEnvironment environment, const Clock& clock,
             size_t max_jobs = 32);

  // Loads the job at its first use; other callers for the same job wait for it. A failure is
  // remembered for one second. Infrastructure failures: "job_unknown" (no spec), "tokenizer" (not
  // readable here). Data failure: "bad_scorer".
  JobContextOr Get(const std::string& job_id) ABSL_LOCKS_EXCLUDED(mu_);
  void Drop(const std::string& job_id) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Entry {
    explicit Entry(std::string id) : job_id(std::move(id)) {}
    const std::string job_id;
    Mutex mu;  // held while loading
    bool is_loaded ABSL_GUARDED_BY(mu) = false;
    JobContextOr loaded ABSL_GUARDED_BY(mu);
    absl::Time failed_at ABSL_GUARDED_BY(mu);
  };

  std::shared_ptr<Entry> GetEntry(const std::string& job_id) ABSL_LOCKS_EXCLUDED(mu_);
  JobContextOr Load(const std::string& job_id);
  StatusOr<std::vector<JobScorer>> MakeScorers(
      const google::protobuf::RepeatedPtrField<v1::ScorerSpec>& specs);

  const FetchSpec fetch_spec_;
  const Clock& clock_;
  const size_t max_jobs_;
  ScorerPool scorers_;
  Mutex mu_;
  std::list<std::shared_ptr<Entry>> by_use_ ABSL_GUARDED_BY(mu_);  // most recent first
};

}  // namespace rollcall
