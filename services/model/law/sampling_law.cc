#include "services/model/law/sampling_law.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

namespace rollcall {
namespace {

Status OutOfRange(const char* name, double value, const char* range) {
  return InvalidArgument(std::string("sampling.") + name + " is " + std::to_string(value) +
                         ", it must be " + range);
}

Status CheckIds(std::string_view name, std::span<const int32_t> ids, int64_t vocab_size) {
  for (const int32_t id : ids) {
    if (id >= 0 && id < vocab_size) continue;
    return InvalidArgument("sampling." + std::string(name) + " names token " + std::to_string(id) +
                           ", the vocabulary has " + std::to_string(vocab_size));
  }
  return OkStatus();
}

std::vector<int32_t> BiasedTokens(const SamplingLaw& law) {
  std::vector<int32_t> tokens;
  tokens.reserve(law.logit_bias.size());
  for (const LogitBias& bias : law.logit_bias) tokens.push_back(bias.token);
  return tokens;
}

}  // namespace

Status CheckSamplingLaw(const SamplingLaw& law) {
  // Written so that a NaN fails.
  if (law.temperature != 0 && !(law.temperature >= 1e-6 && law.temperature <= 100)) {
    return OutOfRange("temperature", law.temperature, "0 or in [1e-6, 100]");
  }
  if (!(law.top_p > 0 && law.top_p <= 1)) return OutOfRange("top_p", law.top_p, "in (0, 1]");
  if (law.top_k < 0) return OutOfRange("top_k", law.top_k, "at least 0");
  if (!(law.min_p >= 0 && law.min_p < 1)) return OutOfRange("min_p", law.min_p, "in [0, 1)");
  if (!(law.repetition_penalty > 0 && law.repetition_penalty <= 100)) {
    return OutOfRange("repetition_penalty", law.repetition_penalty, "in (0, 100]");
  }
  if (!(std::abs(law.presence_penalty) <= 100)) {
    return OutOfRange("presence_penalty", law.presence_penalty, "in [-100, 100]");
  }
  if (!(std::abs(law.frequency_penalty) <= 100)) {
    return OutOfRange("frequency_penalty", law.frequency_penalty, "in [-100, 100]");
  }
  if (law.min_new_tokens < 0) {
    return OutOfRange("min_new_tokens", law.min_new_tokens, "at least 0");
  }
  if (law.logit_bias.size() > kMaxLogitBiases) {
    return InvalidArgument("sampling.logit_bias names " + std::to_string(law.logit_bias.size()) +
                           " tokens, at most " + std::to_string(kMaxLogitBiases) + " are allowed");
  }
  for (const LogitBias& bias : law.logit_bias) {
    if (!(std::abs(bias.bias) <= 100)) {
      return OutOfRange("logit_bias", static_cast<double>(bias.bias), "in [-100, 100]");
    }
  }
  std::vector<int32_t> biased = BiasedTokens(law);
  std::sort(biased.begin(), biased.end());
  const auto twice = std::adjacent_find(biased.begin(), biased.end());
  if (twice != biased.end()) {
    return InvalidArgument("sampling.logit_bias names token " + std::to_string(*twice) + " twice");
  }
  if (std::max(law.allowed_token_ids.size(), law.banned_token_ids.size()) > kMaxListedTokens) {
    return InvalidArgument("sampling names more than " + std::to_string(kMaxListedTokens) +
                           " allowed or banned tokens");
  }
  return OkStatus();
}

Status CheckSamplingLaw(const SamplingLaw& law, int64_t vocab_size) {
  ROLLCALL_RETURN_IF_ERROR(CheckSamplingLaw(law));
  ROLLCALL_RETURN_IF_ERROR(CheckIds("logit_bias", BiasedTokens(law), vocab_size));
  ROLLCALL_RETURN_IF_ERROR(CheckIds("allowed_token_ids", law.allowed_token_ids, vocab_size));
  return CheckIds("banned_token_ids", law.banned_token_ids, vocab_size);
}

}  // namespace rollcall
