// A coordinator for tests of the learner: one job, batches from a function, a group that can be
// fenced. Real gRPC on loopback.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/fleet.grpc.pb.h"
#include "rollcall/v1/learner.grpc.pb.h"
#include "services/base/sync/mutex.h"
#include "services/common/rpc/server.h"

namespace rollcall::testing {

// Thread-safe.
class LearnerCoordinator {
 public:
  struct Options {
    v1::JobSpec spec;
    std::string run_dir;
    // The whole batch of a step.
    std::function<v1::Batch(int64_t step)> batch;
  };
  explicit LearnerCoordinator(Options options);
  ~LearnerCoordinator();

  const std::string& address() const;
  // Hands out rank 0, 1, ... to the next workers that ask; none before.
  void OpenGroup(int world_size) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends the epoch: its calls are answered ABORTED. The next group resumes from the last reported
  // checkpoint.
  void Fence() ABSL_LOCKS_EXCLUDED(mu_);
  // Batches of steps after this one are held back.
  void HoldAfter(int64_t step) ABSL_LOCKS_EXCLUDED(mu_);

  // What has happened; copies.
  struct Log {
    std::vector<v1::WeightManifest> offers;
    std::vector<v1::CommitStepRequest> commits;
    std::vector<v1::ReportCheckpointRequest> checkpoints;
    std::vector<v1::FinishAssignmentRequest> finishes;
    std::map<int64_t, int> batches;  // handed out, by step
    std::map<std::string, int> phases;
    int fenced_calls = 0;
    int assignments = 0;
  };
  Log log() const ABSL_LOCKS_EXCLUDED(mu_);
  // Waits until the log satisfies the condition; false after 30 s.
  bool WaitUntil(const std::function<bool(const Log&)>& condition) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Learner;
  class Fleet;
  grpc::Status Check(const v1::GroupMember& member) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int64_t total_steps() const { return options_.spec.train().total_steps(); }

  const Options options_;
  mutable Mutex mu_;
  CondVar changed_;
  Log log_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> ranks_ ABSL_GUARDED_BY(mu_);  // worker ids
  int world_size_ ABSL_GUARDED_BY(mu_) = 0;
  bool active_ ABSL_GUARDED_BY(mu_) = false;
  int64_t epoch_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t hold_after_ ABSL_GUARDED_BY(mu_);
  int64_t next_worker_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, std::string> store_ ABSL_GUARDED_BY(mu_);

  std::unique_ptr<grpc::Service> learner_;
  std::unique_ptr<grpc::Service> fleet_;
  std::unique_ptr<RpcServer> server_;
};

}  // namespace rollcall::testing
