// What a KV budget needs; the mechanism is heavy_hitters.h.
#pragma once

#include <cstdint>

#include "services/base/status/status.h"
#include "services/model/config/model_config.h"
#include "services/model/decoder/heavy_hitters.h"

namespace rollcall {

// Tokens of either kind that can be asked for.
inline constexpr int32_t kMaxBudgetTokens = 1 << 24;

// kInvalidArgument: only one of the two is at least 1, one is out of range, or a layer of the model
// sees a sliding window.
Status CheckKvBudget(const HeavyHitterOptions& options, const ModelConfig& config);

}  // namespace rollcall
