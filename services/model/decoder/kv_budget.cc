#include "services/model/decoder/kv_budget.h"

#include <string>

namespace rollcall {

Status CheckKvBudget(const HeavyHitterOptions& options, const ModelConfig& config) {
  if (options.num_heavy == 0 && options.num_recent == 0) return OkStatus();
  const auto is_in_range = [](int32_t num) { return num >= 1 && num <= kMaxBudgetTokens; };
  if (!is_in_range(options.num_heavy) || !is_in_range(options.num_recent)) {
    return InvalidArgument("a KV budget of " + std::to_string(options.num_heavy) + " heavy and " +
                           std::to_string(options.num_recent) +
                           " recent tokens; both must be from 1 to " +
                           std::to_string(kMaxBudgetTokens));
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const int64_t window = AttentionOfLayer(config, layer).window;
    if (window == 0) continue;
    return InvalidArgument("layer " + std::to_string(layer) +
                           " of the model sees a sliding window of " + std::to_string(window) +
                           " tokens; a KV budget needs a model whose layers see the whole context");
  }
  return OkStatus();
}

}  // namespace rollcall
