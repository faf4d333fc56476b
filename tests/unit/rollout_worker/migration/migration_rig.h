// A rollout worker's engine with both sides of migration, over real gRPC on loopback.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rollout_worker/engine_loop.h"
#include "rollout_worker/migration/migration_service.h"
#include "rollout_worker/migration/migration_source.h"
#include "rollout_worker/runner/decoder_runner.h"
#include "services/base/log/log.h"
#include "services/base/runtime/clock.h"
#include "services/base/sync/mutex.h"
#include "services/common/rpc/server.h"
#include "services/model/weights/architecture.h"
#include "services/model/weights/random_init.h"
#include "tests/support/catch.h"

namespace rollcall::testing {

inline constexpr char kMigrationJob[] = "job-1";

inline std::shared_ptr<const RunnableModel> MakeRandomModel(const ModelConfig& config) {
  const auto layout = ArenaLayout(ListParameters(config, Head::kLanguageModel));
  std::vector<float> arena(static_cast<size_t>(ArenaValues(layout)));
  FillInitialValues(config, Head::kLanguageModel, 5, arena);
  // Larger than an initialization would be, so that the distributions are far from uniform.
  for (float& value : arena) value *= 5.0F;
  auto model = BuildRunnableModel(config, layout, std::as_bytes(std::span(arena)));
  REQUIRE_OK(model.status());
  return *model;
}

class MigrationRig {
 public:
  using Key = std::pair<uint64_t, int32_t>;

  MigrationRig(const ModelConfig& config, const EngineOptions& engine,
               std::shared_ptr<const RunnableModel> model,
               const MigrationSourceOptions& source = {.token_timeout = absl::Seconds(20)},
               const MigrationOptions& destination = {})
      : source_(source, migration_metrics_, logger_, clock_),
        service_(
            destination,
            [](const std::string&, int64_t) -> StatusOr<ModelId> { return ModelId{1}; },
            migration_metrics_, clock_) {
    EngineEvents mine;
    mine.on_tokens = [this](std::vector<StreamedTokens> tokens) { OnTokens(std::move(tokens)); };
    mine.on_samples = [this](std::vector<CompletedSample> samples) {
      OnSamples(std::move(samples));
    };
    mine.on_group_failed = [this](uint64_t, const Status& status) { OnFailed(status); };
    mine.on_step = [] {};
    loop_ = std::make_unique<EngineLoop>(
        EngineLoopOptions{.engine = engine},
        SplitByGroup({{0, std::move(mine)}, {kFirstMigratedGroup, service_.events()}}), *registry_,
        rollout_metrics_, logger_, clock_);
    source_.SetLoop(loop_.get());
    service_.SetLoop(loop_.get());
    loop_->AddModel({.job_id = kMigrationJob,
                     .config = config,
                     .id = 1,
                     .policy_version = 3,
                     .model = std::move(model)});
    auto server = RpcServer::Start({}, {&service_});
    REQUIRE_OK(server.status());
    server_ = *std::move(server);
  }
  ~MigrationRig() {
    source_.Stop();
    service_.Stop();
    server_->Shutdown(absl::ZeroDuration());
    loop_->Stop();
  }

  const std::string& address() const { return server_->address(); }
  MigrationSource& source() { return source_; }
  EngineLoop& loop() { return *loop_; }
  void AddGroup(GroupRequest request) {
    request.model = 1;
    loop_->AddGroup({.job_id = kMigrationJob,
                     .deadline = clock_.Now() + absl::Minutes(5),
                     .request = std::move(request)});
  }
  // Waits until so many samples are there; false after a minute.
  bool WaitForSamples(size_t count) {
    MutexLock lock(mu_);
    const absl::Time until = absl::Now() + absl::Minutes(1);
    while (samples_.size() < count && failure_.ok() && absl::Now() < until) {
      changed_.WaitFor(mu_, absl::Milliseconds(100));
    }
    return samples_.size() >= count;
  }
  // Waits until the group has sampled so many tokens.
  bool WaitForTokens(uint64_t group_id, size_t count) {
    MutexLock lock(mu_);
    const absl::Time until = absl::Now() + absl::Minutes(1);
    while (times_[{group_id, 0}].size() < count && absl::Now() < until) {
      changed_.WaitFor(mu_, absl::Milliseconds(10));
    }
    return times_[{group_id, 0}].size() >= count;
  }
  std::map<Key, CompletedSample> samples() {
    MutexLock lock(mu_);
    return samples_;
  }
  std::map<Key, std::vector<int32_t>> streamed() {
    MutexLock lock(mu_);
    return streamed_;
  }
  // When each token of the sample was reported.
  std::vector<absl::Time> times(Key key) {
    MutexLock lock(mu_);
    return times_[key];
  }
  // Blocks in use, asked on the engine's thread.
  int32_t NumUsedBlocks() {
    auto answer = std::make_shared<std::optional<int32_t>>();
    loop_->RunOn(kMigrationJob, [this, answer](Engine* engine) {
      MutexLock lock(mu_);
      *answer = engine == nullptr ? 0 : engine->cache().num_used();
      changed_.NotifyAll();
    });
    MutexLock lock(mu_);
    while (!answer->has_value()) changed_.WaitFor(mu_, absl::Milliseconds(100));
    return **answer;
  }

 private:
  void OnTokens(std::vector<StreamedTokens> streamed) {
    const absl::Time now = absl::Now();
    MutexLock lock(mu_);
    for (const StreamedTokens& tokens : streamed) {
      auto& all = streamed_[{tokens.group_id, tokens.index}];
      if (tokens.first != static_cast<int32_t>(all.size()))
        failure_ = Internal("tokens out of turn");
      all.insert(all.end(), tokens.token_ids.begin(), tokens.token_ids.end());
      auto& times = times_[{tokens.group_id, tokens.index}];
      times.resize(all.size(), now);
    }
    changed_.NotifyAll();
  }
  void OnSamples(std::vector<CompletedSample> samples) {
    MutexLock lock(mu_);
    for (CompletedSample& sample : samples) {
      if (!sample.status.ok()) failure_ = sample.status;
      const Key key{sample.group_id, sample.index};
      if (!samples_.emplace(key, std::move(sample)).second) failure_ = Internal("a sample twice");
    }
    changed_.NotifyAll();
  }
  void OnFailed(const Status& status) {
    MutexLock lock(mu_);
    failure_ = status;
    changed_.NotifyAll();
  }

  std::unique_ptr<MetricsRegistry> registry_ = MakeNullMetrics();
  RolloutMetrics rollout_metrics_{*registry_};
  MigrationMetrics migration_metrics_{*registry_};
  NullLogger logger_;
  SystemClock clock_;
  Mutex mu_;
  CondVar changed_;
  std::map<Key, CompletedSample> samples_ ABSL_GUARDED_BY(mu_);
  std::map<Key, std::vector<int32_t>> streamed_ ABSL_GUARDED_BY(mu_);
  std::map<Key, std::vector<absl::Time>> times_ ABSL_GUARDED_BY(mu_);
  Status failure_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<EngineLoop> loop_;
  MigrationSource source_;
  MigrationServiceImpl service_;
  std::unique_ptr<RpcServer> server_;
};

}  // namespace rollcall::testing
