#include "rollout_worker/serving/alias_registry.h"

#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "services/base/sync/mutex.h"

namespace rollcall {
namespace {

class TwiceCounter final : public Counter {
 public:
  TwiceCounter(Counter& first, Counter& second) : first_(first), second_(second) {}
  void Increment(double by) override {
    first_.Increment(by);
    second_.Increment(by);
  }

 private:
  Counter& first_;
  Counter& second_;
};

class TwiceGauge final : public Gauge {
 public:
  TwiceGauge(Gauge& first, Gauge& second) : first_(first), second_(second) {}
  void Set(double value) override {
    first_.Set(value);
    second_.Set(value);
  }

 private:
  Gauge& first_;
  Gauge& second_;
};

class AliasRegistry final : public MetricsRegistry {
 public:
  AliasRegistry(MetricsRegistry& base, std::map<std::string, MetricAlias> aliases)
      : base_(base), aliases_(std::move(aliases)) {}

  Counter& GetCounter(const std::string& name, const std::string& help,
                      const Labels& labels) override ABSL_LOCKS_EXCLUDED(mu_) {
    Counter& own = base_.GetCounter(name, help, labels);
    const auto alias = aliases_.find(name);
    if (alias == aliases_.end()) return own;
    Counter& other = base_.GetCounter(alias->second.name, help, alias->second.labels);
    MutexLock lock(mu_);
    std::unique_ptr<Counter>& twice = counters_[{name, labels}];
    if (twice == nullptr) twice = std::make_unique<TwiceCounter>(own, other);
    return *twice;
  }

  Gauge& GetGauge(const std::string& name, const std::string& help, const Labels& labels) override
      ABSL_LOCKS_EXCLUDED(mu_) {
    Gauge& own = base_.GetGauge(name, help, labels);
    const auto alias = aliases_.find(name);
    if (alias == aliases_.end()) return own;
    Gauge& other = base_.GetGauge(alias->second.name, help, alias->second.labels);
    MutexLock lock(mu_);
    std::unique_ptr<Gauge>& twice = gauges_[{name, labels}];
    if (twice == nullptr) twice = std::make_unique<TwiceGauge>(own, other);
    return *twice;
  }

  Histogram& GetHistogram(const std::string& name, const std::string& help,
                          const std::vector<double>& buckets, const Labels& labels) override {
    return base_.GetHistogram(name, help, buckets, labels);
  }

 private:
  MetricsRegistry& base_;
  const std::map<std::string, MetricAlias> aliases_;

  Mutex mu_;
  std::map<std::pair<std::string, Labels>, std::unique_ptr<Counter>> counters_ ABSL_GUARDED_BY(mu_);
  std::map<std::pair<std::string, Labels>, std::unique_ptr<Gauge>> gauges_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::unique_ptr<MetricsRegistry> MakeAliasRegistry(MetricsRegistry& base,
                                                   std::map<std::string, MetricAlias> aliases) {
  return std::make_unique<AliasRegistry>(base, std::move(aliases));
}

std::map<std::string, MetricAlias> VllmAliases(const std::string& model_name) {
  const Labels labels = {{"model_name", model_name}, {"engine", "0"}};
  return {{"rollcall_rollout_sequences_running", {"vllm:num_requests_running", labels}},
          {"rollcall_rollout_sequences_waiting", {"vllm:num_requests_waiting", labels}},
          {"rollcall_rollout_kv_usage_ratio", {"vllm:kv_cache_usage_perc", labels}},
          {"rollcall_rollout_preemptions_total", {"vllm:num_preemptions_total", labels}}};
}

}  // namespace rollcall
