#include "services/base/metrics/metrics.h"

namespace rollcall {
namespace {

class NullMetrics final : public MetricsRegistry {
 public:
  Counter& GetCounter(const std::string&, const std::string&, const Labels&) override {
    return counter_;
  }
  Gauge& GetGauge(const std::string&, const std::string&, const Labels&) override { return gauge_; }
  Histogram& GetHistogram(const std::string&, const std::string&, const std::vector<double>&,
                          const Labels&) override {
    return histogram_;
  }

 private:
  class NullCounter final : public Counter {
    void Increment(double) override {}
  };
  class NullGauge final : public Gauge {
    void Set(double) override {}
  };
  class NullHistogram final : public Histogram {
    void Observe(double) override {}
  };
  NullCounter counter_;
  NullGauge gauge_;
  NullHistogram histogram_;
};

}  // namespace

std::vector<double> LatencyBuckets() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
          0.25,   0.5,     1,      2.5,   5,      10,    25,   50,    100};
}

std::unique_ptr<MetricsRegistry> MakeNullMetrics() { return std::make_unique<NullMetrics>(); }

}  // namespace rollcall
