// A coordinator for tests of workers that pull prompts: hands out what the test gives it and keeps
// what it gets. Real gRPC on loopback.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/experience.grpc.pb.h"
#include "rollcall/v1/fleet.grpc.pb.h"
#include "services/base/sync/mutex.h"
#include "services/common/rpc/server.h"

namespace rollcall::testing {

// Thread-safe.
class FakeCoordinator {
 public:
  // `more` are served beside the coordinator's services and must outlive it.
  explicit FakeCoordinator(const std::vector<grpc::Service*>& more = {});
  ~FakeCoordinator();

  const std::string& address() const;
  // The job that all leases are about.
  void SetModelPath(const std::string& path) ABSL_LOCKS_EXCLUDED(mu_);
  void Publish(v1::WeightManifest manifest) ABSL_LOCKS_EXCLUDED(mu_);
  void Give(v1::PromptLease lease) ABSL_LOCKS_EXCLUDED(mu_);
  // Every call under this worker id is answered ABORTED from now on.
  void Fence(const std::string& worker_id) ABSL_LOCKS_EXCLUDED(mu_);
  void EndJob(const std::string& job_id) ABSL_LOCKS_EXCLUDED(mu_);
  void AskToDrain() ABSL_LOCKS_EXCLUDED(mu_);
  // The next so many submissions are answered UNAVAILABLE.
  void RefuseSubmissions(int count) ABSL_LOCKS_EXCLUDED(mu_);

  // What has happened; copies.
  struct Log {
    std::vector<std::string> registered;  // worker ids in order
    std::vector<std::string> left;
    std::vector<v1::SubmitTrajectoriesRequest> submissions;  // accepted ones
    std::vector<v1::WeightReceipt> receipts;
    std::set<std::string> phases;
    int largest_max_leases = 0;
    int refused = 0;
    int num_waiting_leases = 0;  // not taken yet
  };
  Log log() const ABSL_LOCKS_EXCLUDED(mu_);
  // Waits until the log satisfies the condition; false after 20 s.
  bool WaitUntil(const std::function<bool(const Log&)>& condition) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Experience;
  class Policy;
  class Fleet;
  grpc::Status CheckWorker(const std::string& worker_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  CondVar changed_;
  Log log_ ABSL_GUARDED_BY(mu_);
  std::vector<v1::PromptLease> leases_ ABSL_GUARDED_BY(mu_);
  std::map<int64_t, v1::WeightManifest> manifests_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> fenced_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> ended_ ABSL_GUARDED_BY(mu_);
  std::string model_path_ ABSL_GUARDED_BY(mu_);
  bool drain_ ABSL_GUARDED_BY(mu_) = false;
  int refuse_submissions_ ABSL_GUARDED_BY(mu_) = 0;

  std::unique_ptr<grpc::Service> experience_;
  std::unique_ptr<grpc::Service> policy_;
  std::unique_ptr<grpc::Service> fleet_;
  std::unique_ptr<RpcServer> server_;
};

}  // namespace rollcall::testing
