// Draws tokens from a row of logits under a law (services/model/law/sampling_law.h), and says with
// which log-probability.
//
// A token is the inverse of the cumulative distribution over the kept set, in increasing id, at one
// uniform number. The masses are added up in blocks of kMassBlock in a fixed order, so a draw is a
// function of the row, the law and the number alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "rollout_worker/sampler/truncation.h"
#include "services/base/status/status.h"
#include "services/model/law/logit_edits.h"
#include "services/model/law/sampling_law.h"

namespace rollcall {

// What a row's law depends on besides the logits. The spans outlive the call of SetRow.
struct RowContext {
  TokenContext tokens;
  // Not sampled before law.min_new_tokens.
  std::span<const int32_t> stop_token_ids;
  // Bit t % 64 of word t / 64: whether token t may be sampled; no bits past the vocabulary. Empty:
  // all may.
  std::span<const uint64_t> allowed_bits;
};

struct SampledToken {
  int32_t token = 0;
  // Natural logarithm of the token's probability under the law.
  float logprob = 0.0F;
};

// Alternatives of one position.
struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0.0F;  // under the whole softmax at temperature 1
};

// Keeps buffers of one vocabulary. Not thread-safe: one per thread.
class Sampler {
 public:
  explicit Sampler(int64_t vocab_size);

  // Prepares the law (checked by CheckSamplingLaw) over one row of logits, which must live until
  // the next call. kDataLoss: a logit is not a finite number. kFailedPrecondition: the masks leave
  // no token.
  Status SetRow(std::span<const float> logits, const SamplingLaw& law,
                const RowContext& context = {});

  // Of the row that was set last; any number of times.
  // One token; `uniform` in [0, 1).
  SampledToken Draw(double uniform) const;
  // Tokens that can be drawn, ascending; empty when that is the whole vocabulary, or under greedy.
  std::span<const int32_t> kept() const { return kept_; }
  // Mass of the kept set in the softmax of the edited logits at the law's temperature, (0, 1].
  double KeptMass() const;
  // Log-probability of a token in the softmax of the row as it came, at temperature 1. The first
  // call for a row costs a pass over it.
  float ModelLogprob(int32_t token);
  // How many tokens of the row are at least as likely as this one, itself included.
  int32_t Rank(int32_t token);
  // The most likely tokens of that softmax, most likely first; of equals the lower ids.
  std::vector<TokenLogprob> TopLogprobs(int32_t count);

 private:
  void KeepUnmasked(const SamplingLaw& law, const RowContext& context);
  void Keep(std::span<const int32_t> places);
  void Sum();

  const int64_t vocab_size_;
  std::span<const float> raw_;
  std::vector<float> edited_;  // a copy of the row, where the law edits
  LogitEdits edits_;
  Truncation truncation_;

  // What is left: logits of kept_, or of the whole vocabulary where that is empty.
  std::span<const float> logits_;
  std::vector<int32_t> kept_;
  std::vector<float> kept_logits_;
  std::vector<int32_t> places_;
  float inverse_temperature_ = 1.0F;
  MassSums sums_;                    // of logits_
  std::vector<float> block_masses_;  // of logits_
  double total_mass_ = 0;
  LogSoftmaxStats whole_;  // of the edited row before masks and truncation
  bool greedy_ = false;
  int32_t greedy_token_ = 0;
  bool has_model_stats_ = false;
  MassSums model_;  // of raw_ at temperature 1
  std::vector<float> scratch_;
};

}  // namespace rollcall
