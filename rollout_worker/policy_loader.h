// Makes versions of a job's policy usable:
//
//   wanted -> manifest -> (fetch -> verify -> load, unless these very weights are loaded)
//          -> receipt accepted -> usable
//
// A version may be sampled from only after the coordinator took the receipt under this process's
// current worker id; after a new registration the receipt is sent again. Everything slow runs on
// one thread of its own, so sequences of other versions go on meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/experience.grpc.pb.h"
#include "rollout_worker/engine_loop.h"
#include "rollout_worker/metrics.h"
#include "services/base/log/log.h"
#include "services/base/runtime/clock.h"
#include "services/base/sync/mutex.h"
#include "services/common/fleet/fleet_client.h"
#include "services/common/rpc/options.h"
#include "services/grammar/token_grammar.h"
#include "services/weight_sync/manifest.h"

namespace rollcall {

struct WantedPolicy {
  std::string job_id;
  // Exactly this version, or any that is at least this one.
  int64_t policy_version = 0;
  bool exact = true;
  bool operator==(const WantedPolicy&) const = default;
};

// Why work cannot be done, as the coordinator is told.
struct WorkFailure {
  enum class Kind { kInfrastructure, kData };
  Kind kind = Kind::kInfrastructure;
  std::string reason;  // short fixed word
  std::string message;
};

struct PolicyLoaderOptions {
  TlsOptions tls;
  absl::Duration fetch_timeout = absl::Seconds(60);
  // Weights may be published anew under an old number after the learners re-formed: a manifest is
  // trusted for this long.
  absl::Duration recheck_interval = absl::Seconds(2);
  // Jobs that take any version look for a newer one this often while they sample.
  absl::Duration refresh_interval = absl::Milliseconds(250);
  // Whose models are made; the engines' own. Null: the CPU's.
  std::shared_ptr<const RunnerBackend> backend;
};

// Called with no lock held, from the loader's thread or from Want.
struct PolicyEvents {
  // Before the first on_usable with this id.
  std::function<void(UsableModel)> on_model;
  std::function<void(uint64_t ticket, ModelId)> on_usable;
  // The newest version of the job is usable; said for jobs that take any version, again and again.
  std::function<void(const std::string& job_id, ModelId)> on_newest;
  std::function<void(uint64_t ticket, const WorkFailure&)> on_failed;
};

// Thread-safe. The number of tickets is bounded by the leases that the caller holds.
class PolicyLoader {
 public:
  PolicyLoader(const PolicyLoaderOptions& options, PolicyEvents events,
               std::shared_ptr<grpc::Channel> coordinator, FleetClient& fleet,
               RolloutMetrics& metrics, Logger& logger, const Clock& clock);
  ~PolicyLoader();
  // Ends the thread; tickets are not answered any more. Idempotent; not from the loader's thread.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

  // Answers with on_usable or on_failed for the ticket, once; reason "deadline" when the version
  // was not usable in time.
  void Want(uint64_t ticket, const WantedPolicy& wanted, absl::Time deadline)
      ABSL_LOCKS_EXCLUDED(mu_);
  // No answer is wanted for the ticket any more.
  void Forget(uint64_t ticket) ABSL_LOCKS_EXCLUDED(mu_);
  // The engine dropped this model: it must be fetched again when it is wanted.
  void ModelDropped(const std::string& job_id, ModelId id) ABSL_LOCKS_EXCLUDED(mu_);
  void DropJob(const std::string& job_id) ABSL_LOCKS_EXCLUDED(mu_);
  // The model of a version that is loaded and may be sampled from; kNotFound.
  StatusOr<ModelId> FindLoaded(const std::string& job_id, int64_t policy_version) const
      ABSL_LOCKS_EXCLUDED(mu_);
  // Of the job's completions; null without one, or before one of its versions was usable.
  std::shared_ptr<const TokenGrammar> GrammarOf(const std::string& job_id) const
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Version {
    ModelId id = 0;
    Hash128 hash{};
    std::string receipt_worker;  // worker id of the receipt that the coordinator took
    std::string transport;
    absl::Time checked;  // when the manifest was last seen to be this one
  };
  // What the job's spec says about its model.
  struct JobModel {
    ModelConfig config;
    Quantization quantization = Quantization::kNone;
    UpdateMode update_mode = UpdateMode::kDrain;
    std::shared_ptr<const TokenGrammar> grammar;
  };
  struct Job {
    std::optional<JobModel> model;
    std::map<int64_t, Version> versions;  // by policy version
    absl::Time refreshed = absl::InfinitePast();
  };
  struct Ticket {
    WantedPolicy wanted;
    absl::Time deadline;
  };
  // How one attempt ended: usable (OK), to be tried again (not OK), or failed for good.
  struct Attempt {
    Status status;
    std::optional<WorkFailure> failure;
    ModelId id = 0;  // the usable one
  };

  void Loop();
  // Waits for something to work on: a ticket's wish in turn, or a look for a newer version.
  std::optional<WantedPolicy> NextWanted() ABSL_LOCKS_EXCLUDED(mu_);
  void Settle(const WantedPolicy& wanted, const Attempt& attempt) ABSL_LOCKS_EXCLUDED(mu_);
  void ExpireTickets() ABSL_LOCKS_EXCLUDED(mu_);
  void Pause(absl::Duration time) ABSL_LOCKS_EXCLUDED(mu_);
  std::optional<ModelId> FindUsable(const WantedPolicy& wanted, const std::string& worker_id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Attempt TryMakeUsable(const WantedPolicy& wanted) ABSL_LOCKS_EXCLUDED(mu_);
  Attempt Load(const Manifest& manifest, Version* version) ABSL_LOCKS_EXCLUDED(mu_);
  Attempt ReadModel(const std::string& job_id, JobModel* model) ABSL_LOCKS_EXCLUDED(mu_);
  // A look for newer weights of a job whose running samples shall go on with them.
  std::optional<WantedPolicy> OverdueRefresh() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  StatusOr<std::optional<Manifest>> GetManifest(const WantedPolicy& wanted,
                                                const std::string& worker_id);
  Status SendReceipt(const Manifest& manifest, const Version& version, const std::string& worker_id,
                     absl::Duration took);
  // kAborted means that the worker id is void. Codes that waiting cannot heal become a failure.
  Attempt FromRpc(const Status& status, const std::string& worker_id, const std::string& what);
  std::optional<Version> FindVersion(const Manifest& manifest) ABSL_LOCKS_EXCLUDED(mu_);
  void Store(const Manifest& manifest, const Version& version, bool newest)
      ABSL_LOCKS_EXCLUDED(mu_);

  const PolicyLoaderOptions options_;
  const PolicyEvents events_;
  const std::unique_ptr<v1::ExperienceService::Stub> experience_;
  const std::unique_ptr<v1::PolicyService::Stub> policy_;
  FleetClient& fleet_;
  RolloutMetrics& metrics_;
  Logger& logger_;
  const Clock& clock_;

  mutable Mutex mu_;
  CondVar changed_;
  std::map<std::string, Job> jobs_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, Ticket> tickets_ ABSL_GUARDED_BY(mu_);
  std::optional<WantedPolicy> refresh_ ABSL_GUARDED_BY(mu_);
  uint64_t last_served_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  // Of the loader's thread.
  ModelId next_model_ = 1;
  std::string last_logged_;
  // What is worked on is a look for newer weights, which nobody waits for.
  bool is_looking_ = false;

  std::jthread thread_;  // last: starts when everything above exists
};

}  // namespace rollcall
