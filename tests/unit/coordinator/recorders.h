// Log, metrics and run files that remember what happened.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "services/base/log/log.h"
#include "services/base/metrics/metrics.h"
#include "services/base/sync/mutex.h"
#include "services/coordinator/job/run_files.h"

namespace rollcall::testing {

// Thread-safe.
class RecordingLogger final : public Logger {
 public:
  void Log(LogLevel, std::string_view message) override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    text_ += std::string(message) + "\n";
  }
  bool Contains(const std::string& part) const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return text_.find(part) != std::string::npos;
  }

 private:
  mutable Mutex mu_;
  std::string text_ ABSL_GUARDED_BY(mu_);
};

// Last value of every gauge and sum of every counter, by name; labels are ignored. Thread-safe.
class RecordingMetrics final : public MetricsRegistry {
 public:
  Counter& GetCounter(const std::string& name, const std::string&, const Labels&) override {
    return Find(name);
  }
  Gauge& GetGauge(const std::string& name, const std::string&, const Labels&) override {
    return Find(name);
  }
  Histogram& GetHistogram(const std::string& name, const std::string&, const std::vector<double>&,
                          const Labels&) override {
    return Find(name);
  }
  double value(const std::string& name) { return Find(name).value(); }

 private:
  class Metric final : public Counter, public Gauge, public Histogram {
   public:
    void Increment(double by) override {
      MutexLock lock(mu_);
      value_ += by;
    }
    void Set(double value) override {
      MutexLock lock(mu_);
      value_ = value;
    }
    void Observe(double) override { Increment(1); }
    double value() {
      MutexLock lock(mu_);
      return value_;
    }

   private:
    Mutex mu_;
    double value_ ABSL_GUARDED_BY(mu_) = 0;
  };

  Metric& Find(const std::string& name) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    std::unique_ptr<Metric>& metric = metrics_[name];
    if (metric == nullptr) metric = std::make_unique<Metric>();
    return *metric;
  }

  Mutex mu_;
  std::map<std::string, std::unique_ptr<Metric>> metrics_ ABSL_GUARDED_BY(mu_);
};

class NoRunFiles final : public coordinator::RunFiles {
 public:
  void AppendLine(coordinator::JobNumber, const std::string&, std::string) override {}
  void Replace(coordinator::JobNumber, const std::string&, std::function<std::string()>) override {}
};

}  // namespace rollcall::testing
