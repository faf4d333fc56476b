// A registry that records some metrics a second time, under the names of somebody else.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "services/base/metrics/metrics.h"

namespace rollcall {

struct MetricAlias {
  std::string name;
  Labels labels;  // instead of the metric's own; metrics that get the same name and labels add up
};

// `aliases` by the name of the metric; counters and gauges only. `base` must outlive it;
// thread-safe.
std::unique_ptr<MetricsRegistry> MakeAliasRegistry(MetricsRegistry& base,
                                                   std::map<std::string, MetricAlias> aliases);

// The engine's counters and gauges that mean what vLLM's do, under vLLM's names.
std::map<std::string, MetricAlias> VllmAliases(const std::string& model_name);

}  // namespace rollcall
