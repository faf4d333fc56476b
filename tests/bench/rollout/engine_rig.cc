#include "tests/bench/rollout/engine_rig.h"

#include <cstddef>
#include <map>
#include <utility>

#include "rollout_worker/runner/decoder_runner.h"
#include "services/base/metrics/metrics.h"
#include "services/base/runtime/random.h"
#include "services/model/layers/tensor_memory.h"
#include "services/model/weights/model_weights.h"

namespace rollcall {
namespace {

constexpr ModelId kModel = 1;

class Sum final : public Counter, public Histogram {
 public:
  void Increment(double by) override { total_ += by; }
  void Observe(double value) override { total_ += value; }
  double total() const { return total_; }

 private:
  double total_ = 0;
};

class NullGauge final : public Gauge {
 public:
  void Set(double /*value*/) override {}
};

}  // namespace

// Totals by name; one thread.
class EngineRig::Metrics final : public MetricsRegistry {
 public:
  Counter& GetCounter(const std::string& name, const std::string& /*help*/,
                      const Labels& /*labels*/) override {
    return sums_[name];
  }
  Gauge& GetGauge(const std::string& /*name*/, const std::string& /*help*/,
                  const Labels& /*labels*/) override {
    return gauge_;
  }
  Histogram& GetHistogram(const std::string& name, const std::string& /*help*/,
                          const std::vector<double>& /*buckets*/,
                          const Labels& /*labels*/) override {
    return sums_[name];
  }
  int64_t Total(const std::string& name) const {
    const auto it = sums_.find(name);
    ROLLCALL_CHECK(it != sums_.end(), "the engine has no such metric");
    return static_cast<int64_t>(it->second.total());
  }

 private:
  std::map<std::string, Sum> sums_;
  NullGauge gauge_;
};

EngineRig::EngineRig() : metrics_(std::make_unique<Metrics>()) {}
EngineRig::~EngineRig() = default;

StatusOr<std::unique_ptr<EngineRig>> EngineRig::Make(const RigOptions& options) {
  UseOneTorchThread();
  RecycleTensorMemory();
  ROLLCALL_ASSIGN_OR_RETURN(const ModelWeights weights,
                            LoadWeights(options.model, Head::kLanguageModel, Gradients::kNone));
  ModelConfig config = weights.config;
  config.precision = options.precision;
  EngineOptions engine_options;
  engine_options.compute_threads = options.num_threads;
  engine_options.scheduler.max_sequences = options.max_sequences;
  engine_options.kv_cache_bytes = (options.kv_tokens / engine_options.block_size + 1) *
                                  KvBlockBytes(config, engine_options.block_size);
  std::unique_ptr<EngineRig> rig(new EngineRig());
  ROLLCALL_ASSIGN_OR_RETURN(
      rig->engine_,
      Engine::Create(engine_options, config, EngineMetrics(*rig->metrics_), rig->clock_));
  std::vector<std::byte> snapshot(static_cast<size_t>(weights.arena.nbytes()));
  ROLLCALL_RETURN_IF_ERROR(CopyArenaTo(weights, snapshot.data(), snapshot.size()));
  ROLLCALL_ASSIGN_OR_RETURN(auto model, BuildRunnableModel(config, weights.layout, snapshot));
  rig->engine_->AddModel(kModel, 1, std::move(model));
  rig->vocab_size_ = config.vocab_size;
  return rig;
}

Status EngineRig::Add(std::vector<int32_t> prompt, int32_t num_samples, int32_t num_new) {
  GroupRequest request;
  request.group_id = prompt_lengths_.size();
  request.model = kModel;
  prompt_lengths_.push_back(static_cast<int32_t>(prompt.size()));
  request.prompt_token_ids = std::move(prompt);
  request.max_new_tokens = num_new;
  for (int32_t i = 0; i < num_samples; ++i) {
    const auto prompt_id = static_cast<int64_t>(request.group_id);
    request.stream_keys.push_back(SampleStreamKey(1, 0, 0, prompt_id, i));
  }
  return engine_->AddGroup(std::move(request));
}

Status EngineRig::AddRandom(int32_t num_prompts, int32_t num_tokens, int32_t num_samples,
                            int32_t num_new) {
  CounterRandom random(prompt_lengths_.size());
  for (int32_t i = 0; i < num_prompts; ++i) {
    std::vector<int32_t> prompt(static_cast<size_t>(num_tokens));
    for (int32_t& token : prompt) {
      token = static_cast<int32_t>(random.Below(static_cast<uint64_t>(vocab_size_)));
    }
    ROLLCALL_RETURN_IF_ERROR(Add(std::move(prompt), num_samples, num_new));
  }
  return OkStatus();
}

Status EngineRig::Step() {
  const StepResult result = engine_->Step();
  for (const CompletedSample& sample : result.completed) {
    ROLLCALL_RETURN_IF_ERROR(sample.status);
    ++num_completed_;
    num_closed_ += prompt_lengths_[sample.group_id];
    num_closed_ += static_cast<int64_t>(sample.token_ids.size()) - 1;
  }
  return OkStatus();
}

Status EngineRig::RunAll() {
  while (engine_->has_work()) ROLLCALL_RETURN_IF_ERROR(Step());
  return OkStatus();
}

int64_t EngineRig::num_computed() const { return metrics_->Total("rollcall_rollout_batch_tokens"); }
int64_t EngineRig::num_prefilled() const {
  return metrics_->Total("rollcall_rollout_prefilled_tokens_total");
}
int64_t EngineRig::num_sampled() const {
  return metrics_->Total("rollcall_rollout_sampled_tokens_total");
}
int64_t EngineRig::num_preempted() const {
  return metrics_->Total("rollcall_rollout_preemptions_total");
}

}  // namespace rollcall
