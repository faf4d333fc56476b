// Penalties and bias on a row of logits, and the way back for gradients.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "services/model/law/sampling_law.h"

namespace rollcall {

// Keeps buffers of one vocabulary. Not thread-safe.
class LogitEdits {
 public:
  explicit LogitEdits(int64_t vocab_size);

  // Edits the logits in place: repetition penalty, then frequency and presence penalty, then bias.
  // The tokens are in the vocabulary. O(tokens of the context), without penalties O(1).
  void Apply(const SamplingLaw& law, const TokenContext& context, std::span<float> logits_V);

  // Gradient for the edited logits into that for the logits before Apply, in place; of the last
  // Apply.
  void Backward(std::span<float> dlogits_V) const;

 private:
  struct Factor {
    int32_t token;
    float factor;
  };

  void Count(std::span<const int32_t> tokens, int32_t weight);

  std::vector<int32_t> counts_V_;  // in the completion; -1: not seen
  std::vector<int32_t> seen_;
  std::vector<Factor> factors_;  // of the last Apply
};

}  // namespace rollcall
