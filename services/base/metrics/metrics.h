// Metrics interface for code that must not know prometheus-cpp. Names are
// rollcall_<folder>_<what>_<unit>[_total] in base units (seconds, bytes, tokens); a label value is
// from a small fixed set, never an id.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace rollcall {

// All thread-safe. Owned by the registry, valid as long as it.
class Counter {
 public:
  virtual ~Counter() = default;
  virtual void Increment(double by = 1.0) = 0;  // by >= 0
};

class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void Set(double value) = 0;
};

class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void Observe(double value) = 0;
};

using Labels = std::map<std::string, std::string>;

class MetricsRegistry {
 public:
  virtual ~MetricsRegistry() = default;
  // The same name and labels give the same object.
  virtual Counter& GetCounter(const std::string& name, const std::string& help,
                              const Labels& labels = {}) = 0;
  virtual Gauge& GetGauge(const std::string& name, const std::string& help,
                          const Labels& labels = {}) = 0;
  // Bucket upper bounds, ascending, without +Inf.
  virtual Histogram& GetHistogram(const std::string& name, const std::string& help,
                                  const std::vector<double>& buckets,
                                  const Labels& labels = {}) = 0;
};

// Upper bounds that suit most latencies: 100 us to 100 s.
std::vector<double> LatencyBuckets();

// A registry that records nothing.
std::unique_ptr<MetricsRegistry> MakeNullMetrics();

}  // namespace rollcall
