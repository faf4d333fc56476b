// Takes running sequences from other workers and sends what they sample back; see migration.proto.
//
//   offered -> reserved -> receiving blocks -> committed: runs here -> ended
//      '------------ stream ends at any point: everything of it is dropped ------------'
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/migration.grpc.pb.h"
#include "rollout_worker/engine_loop.h"
#include "rollout_worker/migration/metrics.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

// Groups of sequences that came from elsewhere have ids from here on; other users of the same
// engine loop stay below.
inline constexpr uint64_t kFirstMigratedGroup = uint64_t{1} << 63;

struct MigrationOptions {
  int max_streams = 64;  // sequences of other workers, on their way or running
  // A stream whose next message does not come in time is given up.
  absl::Duration message_timeout = absl::Seconds(10);
};

// Thread-safe. Streams may end after this object; the engine loop must outlive the server.
class MigrationServiceImpl final : public v1::MigrationService::CallbackService {
 public:
  // Finds the model of a job's version; kNotFound when it is not loaded.
  using FindModel = std::function<StatusOr<ModelId>(const std::string& job_id, int64_t version)>;

  MigrationServiceImpl(const MigrationOptions& options, FindModel find_model,
                       MigrationMetrics& metrics, const Clock& clock);
  ~MigrationServiceImpl() override;

  // What the engine loop shall call for groups from kFirstMigratedGroup on.
  EngineEvents events();
  // Call once; until then streams are refused with kUnavailable.
  void SetLoop(EngineLoop* loop) { shared_->loop = loop; }
  // Ends every stream: their sequences go on at their sources. Call before the loop stops.
  void Stop();

  grpc::ServerBidiReactor<v1::MigrateRequest, v1::MigrateResponse>* Receive(
      grpc::CallbackServerContext* context) override;

 private:
  class Stream;
  class Incoming;
  // Outlives the service while streams do.
  struct Shared {
    Shared(const MigrationOptions& migration_options, FindModel find, MigrationMetrics& m,
           const Clock& c)
        : options(migration_options), find_model(std::move(find)), metrics(m), clock(c) {}
    const MigrationOptions options;
    const FindModel find_model;
    MigrationMetrics& metrics;
    const Clock& clock;
    std::atomic<EngineLoop*> loop = nullptr;
    Mutex mu;
    bool is_stopped ABSL_GUARDED_BY(mu) = false;
    int num_streams ABSL_GUARDED_BY(mu) = 0;
    uint64_t next_group ABSL_GUARDED_BY(mu) = kFirstMigratedGroup;
    std::unordered_map<uint64_t, std::shared_ptr<Incoming>> running ABSL_GUARDED_BY(mu);
    // All streams that live; each leaves when it ends.
    std::unordered_set<Incoming*> streams ABSL_GUARDED_BY(mu);
  };
  // Ends the streams whose source has been silent for too long.
  void EndSilent() ABSL_LOCKS_EXCLUDED(shared_->mu);
  std::shared_ptr<Incoming> Find(uint64_t group_id) ABSL_LOCKS_EXCLUDED(shared_->mu);

  const std::shared_ptr<Shared> shared_;
};

}  // namespace rollcall
