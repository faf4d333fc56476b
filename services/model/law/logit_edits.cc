#include "services/model/law/logit_edits.h"

namespace rollcall {

LogitEdits::LogitEdits(int64_t vocab_size) : counts_V_(static_cast<size_t>(vocab_size), -1) {}

void LogitEdits::Count(std::span<const int32_t> tokens, int32_t weight) {
  for (const int32_t token : tokens) {
    if (counts_V_[token] < 0) {
      counts_V_[token] = 0;
      seen_.push_back(token);
    }
    counts_V_[token] += weight;
  }
}

void LogitEdits::Apply(const SamplingLaw& law, const TokenContext& context,
                       std::span<float> logits_V) {
  factors_.clear();
  if (law.has_penalties()) {
    if (law.repetition_penalty != 1.0) Count(context.prompt, 0);
    Count(context.completion, 1);
    const auto repetition = static_cast<float>(law.repetition_penalty);
    const auto presence = static_cast<float>(law.presence_penalty);
    const auto frequency = static_cast<float>(law.frequency_penalty);
    for (const int32_t token : seen_) {
      float& logit = logits_V[token];
      if (repetition != 1.0F) {
        const bool positive = logit > 0;
        factors_.push_back({token, positive ? 1.0F / repetition : repetition});
        logit = positive ? logit / repetition : logit * repetition;
      }
      if (counts_V_[token] > 0) {
        logit -= frequency * static_cast<float>(counts_V_[token]);
        logit -= presence;
      }
      counts_V_[token] = -1;
    }
    seen_.clear();
  }
  for (const LogitBias& bias : law.logit_bias) logits_V[bias.token] += bias.bias;
}

void LogitEdits::Backward(std::span<float> dlogits_V) const {
  for (const Factor& factor : factors_) dlogits_V[factor.token] *= factor.factor;
}

}  // namespace rollcall
