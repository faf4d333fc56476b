// Notices on a thread of its own that the group of an assignment was fenced.
#pragma once

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/learner.grpc.pb.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

// Waits for a key of the group's store that nobody sets; the coordinator answers ABORTED when the
// epoch is over. `on_fenced` runs at most once, on the watching thread.
class FenceWatch {
 public:
  FenceWatch(v1::LearnerService::Stub& stub, const v1::GroupMember& member,
             absl::Duration poll_wait, std::function<void(const Status&)> on_fenced);
  // Ends the wait under way and joins.
  ~FenceWatch();

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  // False when the watch is over.
  bool Pause() ABSL_LOCKS_EXCLUDED(mu_);
  Status AskOnce() ABSL_LOCKS_EXCLUDED(mu_);

  v1::LearnerService::Stub& stub_;
  const v1::GroupMember member_;
  const absl::Duration poll_wait_;
  const std::function<void(const Status&)> on_fenced_;

  Mutex mu_;
  CondVar changed_;
  bool over_ ABSL_GUARDED_BY(mu_) = false;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mu_) = nullptr;  // of the call under way

  std::thread thread_;
};

}  // namespace rollcall
