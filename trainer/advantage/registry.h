// The advantage estimators by name. A new one is a file here and a line in registry.cc.
#pragma once

#include <span>
#include <string_view>

#include "services/base/status/status.h"
#include "trainer/advantage/advantage.h"

namespace rollcall {

struct AdvantageEstimator {
  std::string_view name;
  AdvantageFn estimate;
  bool needs_critic = false;
};

std::span<const AdvantageEstimator> AdvantageParts();

// kInvalidArgument lists the names.
StatusOr<AdvantageEstimator> FindAdvantageEstimator(std::string_view name);

}  // namespace rollcall
