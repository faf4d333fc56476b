// Hands running sequences to other workers while they decode, and brings back what they sample
// there. One thread per sequence that is away or on its way.
//
//   running --stages: blocks copied while it decodes--> detached: the last blocks, commit
//     ^------ refused, preempted, lost, too slow ------'          |
//     '------ destination lost: computed again ---------------- away --> ended
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollcall/v1/migration.grpc.pb.h"
#include "rollout_worker/engine_loop.h"
#include "rollout_worker/migration/metrics.h"
#include "services/base/log/log.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"
#include "services/common/rpc/options.h"

namespace rollcall {

struct MigrationSourceOptions {
  TlsOptions tls;
  int max_away = 64;   // sequences, bounded by threads
  int max_stages = 3;  // copies beside decoding before a sequence is too fast to follow
  // A sequence stops for its last copy when no more blocks than this are left.
  int32_t last_stage_blocks = 16;
  // A sequence that the destination runs is taken back when nothing comes for this long.
  absl::Duration token_timeout = absl::Seconds(60);
};

// Which sequence moves first: the least urgent, among equals the shortest.
void OrderForMigration(std::vector<MovableSequence>* movable);

// Thread-safe.
class MigrationSource {
 public:
  // What it borrows must outlive it.
  MigrationSource(const MigrationSourceOptions& options, MigrationMetrics& metrics, Logger& logger,
                  const Clock& clock);
  ~MigrationSource();
  MigrationSource(const MigrationSource&) = delete;
  MigrationSource& operator=(const MigrationSource&) = delete;

  // Call once before the first MigrateOut; the loop must outlive Stop.
  void SetLoop(EngineLoop* loop) ABSL_LOCKS_EXCLUDED(mu_);
  // Sequences that are away are taken back. Idempotent; not from the engine's thread.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

  // Begins to move up to `max_sequences` of the job to the worker at `destination`; returns how
  // many. kInvalidArgument: not host:port; kUnavailable: stopped, or the engine does not answer.
  StatusOr<int> MigrateOut(const std::string& job_id, const std::string& destination,
                           int max_sequences) ABSL_LOCKS_EXCLUDED(mu_);

  // On their way or away.
  size_t num_moving() const ABSL_LOCKS_EXCLUDED(mu_);
  // That ran elsewhere, since the beginning; of these, taken back because the destination was lost.
  int64_t num_moved() const { return num_moved_; }
  int64_t num_reclaimed() const { return num_reclaimed_; }

 private:
  using Stream = grpc::ClientReaderWriter<v1::MigrateRequest, v1::MigrateResponse>;
  struct Move;

  void Run(Move* move) ABSL_LOCKS_EXCLUDED(mu_);
  // Until the destination runs it; OK then.
  Status Transfer(Move* move, Stream* stream);
  Status SendBlocks(Move* move, Stream* stream, int32_t end, int32_t num_tokens);
  Status Exchange(Move* move, Stream* stream, const v1::MigrateRequest& request,
                  v1::MigrateResponse::StepCase expected, v1::MigrateResponse* response);
  // Brings tokens back until the sequence ended. Not OK: the destination is lost.
  Status Follow(Move* move, Stream* stream);
  // Runs on the engine's thread and waits for it.
  Status OnEngine(const std::string& job_id, std::function<Status(Engine&)> call);
  StatusOr<std::shared_ptr<grpc::Channel>> ChannelTo(const std::string& address)
      ABSL_LOCKS_EXCLUDED(mu_);
  void JoinFinished() ABSL_LOCKS_EXCLUDED(mu_);
  // Cancels moves of which nothing was heard for too long.
  void Watch(const std::stop_token& stop) ABSL_LOCKS_EXCLUDED(mu_);
  void Heard(Move* move) ABSL_LOCKS_EXCLUDED(mu_);

  const MigrationSourceOptions options_;
  MigrationMetrics& metrics_;
  Logger& logger_;
  const Clock& clock_;

  std::atomic<int64_t> num_moved_ = 0;
  std::atomic<int64_t> num_reclaimed_ = 0;

  mutable Mutex mu_;
  EngineLoop* loop_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool is_stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::unordered_map<std::string, std::shared_ptr<grpc::Channel>> channels_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Move>> moves_ ABSL_GUARDED_BY(mu_);
  CondVar changed_;
  std::jthread watch_thread_;  // last: starts when everything above exists
};

}  // namespace rollcall
