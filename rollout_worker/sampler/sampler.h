// Turns a row of logits into a token and its behaviour log-probability.
//
// The law: logits / temperature -> softmax -> top_k -> top_p -> min_p -> renormalise. Candidates
// are ordered by probability, equal ones by lower id. top_p counts mass among what top_k kept;
// min_p compares with the most likely token. The token is the inverse of the cumulative
// distribution, in increasing id, at one uniform number. Temperature 0 is greedy: the lowest id
// among the largest logits, with log-probability 0, because that law has one outcome.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

struct SamplingLaw {
  double temperature = 1.0;  // [0, 100]; 0 is greedy
  double top_p = 1.0;        // (0, 1]; 1 keeps all
  int32_t top_k = 0;         // >= 0; 0 keeps all
  double min_p = 0.0;        // [0, 1); 0 keeps all
};

// kInvalidArgument names the setting that is out of range.
Status CheckSamplingLaw(const SamplingLaw& law);

struct SampledToken {
  int32_t token = 0;
  // Natural logarithm of the token's probability under the law. Without truncation it is the value
  // of LogSoftmaxRow, bit for bit.
  float logprob = 0.0F;
};

// Keeps buffers of one vocabulary. Not thread-safe.
class Sampler {
 public:
  explicit Sampler(int64_t vocab_size);

  // Prepares the law (checked by CheckSamplingLaw) over one row of logits. kDataLoss when a logit
  // is not a finite number.
  Status SetRow(std::span<const float> logits, const SamplingLaw& law);

  // One token of the row prepared last; `uniform` in [0, 1). May be called many times.
  SampledToken Draw(double uniform) const;

 private:
  void Truncate(const SamplingLaw& law);

  std::vector<float> logprobs_;  // of the whole vocabulary
  // Truncated law: what is left, in increasing id, with mass before renormalisation.
  std::vector<int32_t> kept_;
  double kept_mass_ = 1.0;
  float log_kept_mass_ = 0.0F;
  bool greedy_ = false;
  int32_t greedy_token_ = 0;
  bool truncated_ = false;
};

}  // namespace rollcall
