#include "rollout_worker/sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "services/model/decoder/decoder.h"

namespace rollcall {
namespace {

Status OutOfRange(const char* name, double value, const char* range) {
  return InvalidArgument(std::string("sampling.") + name + " is " + std::to_string(value) +
                         ", it must be " + range);
}

}  // namespace

Status CheckSamplingLaw(const SamplingLaw& law) {
  // Written so that a NaN fails.
  if (!(law.temperature >= 0 && law.temperature <= 100)) {
    return OutOfRange("temperature", law.temperature, "in [0, 100]");
  }
  if (!(law.top_p > 0 && law.top_p <= 1)) return OutOfRange("top_p", law.top_p, "in (0, 1]");
  if (law.top_k < 0) return OutOfRange("top_k", law.top_k, "at least 0");
  if (!(law.min_p >= 0 && law.min_p < 1)) return OutOfRange("min_p", law.min_p, "in [0, 1)");
  return OkStatus();
}

Sampler::Sampler(int64_t vocab_size) : logprobs_(static_cast<size_t>(vocab_size)) {
  kept_.reserve(static_cast<size_t>(vocab_size));
}

Status Sampler::SetRow(std::span<const float> logits, const SamplingLaw& law) {
  ROLLCALL_CHECK(logits.size() == logprobs_.size(), "a row of logits has one entry per token");
  size_t largest = 0;
  // Zero as long as every logit is finite; x - x is NaN for infinities and NaN.
  float poison = 0.0F;
  for (size_t i = 0; i < logits.size(); ++i) {
    poison += logits[i] - logits[i];
    if (logits[i] > logits[largest]) largest = i;
  }
  if (poison != 0.0F) return DataLoss("the model's logits are not finite numbers");
  greedy_ = law.temperature == 0.0;
  truncated_ = false;
  if (greedy_) {
    greedy_token_ = static_cast<int32_t>(largest);
    return OkStatus();
  }
  LogSoftmaxRow(logits, law.temperature, logprobs_);
  Truncate(law);
  return OkStatus();
}

void Sampler::Truncate(const SamplingLaw& law) {
  const size_t vocab = logprobs_.size();
  const size_t top_k = law.top_k == 0 ? vocab : std::min<size_t>(vocab, law.top_k);
  if (top_k == vocab && law.top_p >= 1.0 && law.min_p <= 0.0) return;

  kept_.resize(vocab);
  for (size_t i = 0; i < vocab; ++i) kept_[i] = static_cast<int32_t>(i);
  if (top_k < vocab || law.top_p < 1.0) {
    // A heap yields the candidates in order and stops early, which a full sort would not.
    const auto less_likely = [this](int32_t a, int32_t b) {
      return logprobs_[a] != logprobs_[b] ? logprobs_[a] < logprobs_[b] : a > b;
    };
    std::make_heap(kept_.begin(), kept_.end(), less_likely);
    auto rest_end = kept_.end();  // [rest_end, end) holds what was popped, least likely first
    const auto pop = [&] { std::pop_heap(kept_.begin(), rest_end--, less_likely); };
    if (top_k < vocab) {
      double mass = 0.0;
      for (size_t i = 0; i < top_k; ++i) {
        pop();
        mass += std::exp(static_cast<double>(logprobs_[*rest_end]));
      }
      auto first_kept = rest_end;
      if (law.top_p < 1.0) {
        double cumulative = 0.0;
        first_kept = kept_.end();
        while (first_kept != rest_end && cumulative < law.top_p * mass) {
          --first_kept;
          cumulative += std::exp(static_cast<double>(logprobs_[*first_kept]));
        }
      }
      kept_.erase(kept_.begin(), first_kept);
    } else {
      double cumulative = 0.0;
      while (rest_end != kept_.begin() && cumulative < law.top_p) {
        pop();
        cumulative += std::exp(static_cast<double>(logprobs_[*rest_end]));
      }
      kept_.erase(kept_.begin(), rest_end);
    }
  }
  if (law.min_p > 0.0) {
    float largest = logprobs_[kept_.front()];
    for (const int32_t token : kept_) largest = std::max(largest, logprobs_[token]);
    const double threshold = static_cast<double>(largest) + std::log(law.min_p);
    std::erase_if(kept_, [&](int32_t token) { return logprobs_[token] < threshold; });
  }
  if (kept_.size() == vocab) return;
  truncated_ = true;
  std::sort(kept_.begin(), kept_.end());
  kept_mass_ = 0.0;
  for (const int32_t token : kept_) kept_mass_ += std::exp(static_cast<double>(logprobs_[token]));
  log_kept_mass_ = static_cast<float>(std::log(kept_mass_));
}

SampledToken Sampler::Draw(double uniform) const {
  if (greedy_) return {greedy_token_, 0.0F};
  double cumulative = 0.0;
  // Rounding may leave the sum a little below the uniform number; the last token that can occur
  // takes what is missing.
  int32_t last_possible = 0;
  if (truncated_) {
    const double target = uniform * kept_mass_;
    for (const int32_t token : kept_) {
      const double mass = std::exp(static_cast<double>(logprobs_[token]));
      if (mass > 0.0) last_possible = token;
      cumulative += mass;
      if (cumulative > target) break;
    }
    // One survivor has probability 1, whatever rounding says.
    if (kept_.size() == 1) return {last_possible, 0.0F};
    return {last_possible, std::min(0.0F, logprobs_[last_possible] - log_kept_mass_)};
  }
  for (size_t i = 0; i < logprobs_.size(); ++i) {
    const double mass = std::exp(static_cast<double>(logprobs_[i]));
    if (mass > 0.0) last_possible = static_cast<int32_t>(i);
    cumulative += mass;
    if (cumulative > uniform) break;
  }
  return {last_possible, logprobs_[last_possible]};
}

}  // namespace rollcall
