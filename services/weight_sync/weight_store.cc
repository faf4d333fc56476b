#include "services/weight_sync/weight_store.h"

#include <list>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "services/base/sync/mutex.h"
#include "services/weight_sync/shared_memory.h"
#include "services/weight_sync/weight_service.h"

namespace rollcall {
namespace {

struct HeldVersion {
  int64_t policy_version = 0;
  HeldSnapshot snapshot;
  std::unique_ptr<SharedMemoryObject> shared;  // may be null
};

// Oldest publication first. By publication and not by number: a learner that resumed from an older
// checkpoint publishes a smaller version, and that is the one in demand.
using Versions = std::list<HeldVersion>;

class LocalWeightStore final : public WeightStore {
 public:
  explicit LocalWeightStore(Logger& logger)
      : logger_(logger),
        host_id_(HostId()),
        service_([this](const std::string& job_id, int64_t policy_version) {
          return Find(job_id, policy_version);
        }) {}

  grpc::Service* service() override { return &service_; }

  void set_address(const std::string& address) override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    address_ = address;
  }

  StatusOr<Manifest> Publish(const std::string& job_id, int64_t policy_version, int64_t epoch,
                             const std::vector<TensorLayout>& layout,
                             std::vector<std::byte> snapshot, TransportChoice transport,
                             int keep_versions) override ABSL_LOCKS_EXCLUDED(mu_) {
    if (keep_versions < 1) {
      return InvalidArgument("keep_versions is " + std::to_string(keep_versions) +
                             "; at least 1 version is kept");
    }
    const std::string address = this->address();
    if (address.empty()) {
      return FailedPrecondition("weights cannot be offered before the server's address is known");
    }
    ROLLCALL_ASSIGN_OR_RETURN(Manifest manifest,
                              BuildManifest(job_id, policy_version, epoch, layout, snapshot));
    HeldVersion held{.policy_version = policy_version,
                     .snapshot = {.hash = manifest.hash, .bytes = {}},
                     .shared = nullptr};
    if (transport != TransportChoice::kGrpc) held.shared = Share(policy_version, snapshot);
    if (held.shared != nullptr) {
      manifest.sources.push_back({.kind = WeightSourceInfo::Kind::kSharedMemory,
                                  .name = held.shared->name(),
                                  .host_id = host_id_,
                                  .address = {}});
    }
    manifest.sources.push_back(
        {.kind = WeightSourceInfo::Kind::kGrpc, .name = {}, .host_id = {}, .address = address});
    held.snapshot.bytes = std::make_shared<const std::vector<std::byte>>(std::move(snapshot));
    const Versions dropped = Keep(job_id, std::move(held), static_cast<size_t>(keep_versions));
    return manifest;
  }

  void DropJob(const std::string& job_id) override ABSL_LOCKS_EXCLUDED(mu_) {
    Versions dropped;
    MutexLock lock(mu_);
    if (const auto job = jobs_.find(job_id); job != jobs_.end()) {
      dropped = std::move(job->second);
      jobs_.erase(job);
    }
  }

 private:
  std::string address() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return address_;
  }

  // Null when the system cannot: gRPC serves every version anyway.
  std::unique_ptr<SharedMemoryObject> Share(int64_t policy_version,
                                            std::span<const std::byte> snapshot)
      ABSL_LOCKS_EXCLUDED(mu_) {
    if (host_id_.empty()) return nullptr;
    StatusOr<std::unique_ptr<SharedMemoryObject>> shared =
        SharedMemoryObject::Create(policy_version, snapshot);
    if (shared.ok()) return *std::move(shared);
    MutexLock lock(mu_);
    if (!std::exchange(reported_, true)) {
      logger_.Warning("weights travel by gRPC only error=\"" + Message(shared.status()) + "\"");
    }
    return nullptr;
  }

  // Adds the version; returns what it replaces or pushes out, to be freed without the lock.
  Versions Keep(const std::string& job_id, HeldVersion held, size_t keep_versions)
      ABSL_LOCKS_EXCLUDED(mu_) {
    Versions dropped;
    MutexLock lock(mu_);
    Versions& versions = jobs_[job_id];
    const int64_t policy_version = held.policy_version;
    for (auto it = versions.begin(); it != versions.end();) {
      const auto current = it++;
      if (current->policy_version == policy_version) {
        dropped.splice(dropped.end(), versions, current);
      }
    }
    versions.push_back(std::move(held));
    while (versions.size() > keep_versions) {
      dropped.splice(dropped.end(), versions, versions.begin());
    }
    return dropped;
  }

  StatusOr<HeldSnapshot> Find(const std::string& job_id, int64_t policy_version) const
      ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (const auto job = jobs_.find(job_id); job != jobs_.end()) {
      for (const HeldVersion& held : job->second) {
        if (held.policy_version == policy_version) return held.snapshot;
      }
    }
    return NotFound("version " + std::to_string(policy_version) + " of job '" + job_id +
                    "' is not held here");
  }

  Logger& logger_;
  const std::string host_id_;

  mutable Mutex mu_;
  std::string address_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Versions> jobs_ ABSL_GUARDED_BY(mu_);
  bool reported_ ABSL_GUARDED_BY(mu_) = false;  // that there is no shared memory

  WeightServiceImpl service_;
};

}  // namespace

std::unique_ptr<WeightStore> MakeWeightStore(Logger& logger) {
  return std::make_unique<LocalWeightStore>(logger);
}

}  // namespace rollcall
