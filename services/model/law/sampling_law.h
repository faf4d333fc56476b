// The law that a token is drawn from, as a function of the model's logits and the tokens before it.
//
//   logits -> penalties, bias -> masks -> / temperature -> top_k -> top_p -> min_p -> renormalise
//
// The sampler draws from it and the learner differentiates it, with the same functions in the same
// order, so that both get the same log-probability, bit for bit:
//   - LogitEdits changes the logits of the tokens that the penalties and the bias name;
//   - what the masks, top_k, top_p and min_p leave is the kept set, which travels with the token;
//   - the law is the log-softmax of the kept logits, in increasing id, divided by the temperature.
// Candidates are ordered by logit, equal ones by lower id. top_p counts mass among what top_k kept;
// min_p compares with the most likely token. Temperature 0 is greedy: the lowest id among the
// largest edited logits that the masks allow, with log-probability 0: that law has one outcome.
//
// A completion is a run of sampled tokens; what stands before it is its prompt.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

struct LogitBias {
  int32_t token = 0;
  float bias = 0;  // added to the logit; [-100, 100]
};

struct SamplingLaw {
  double temperature = 1.0;  // 0 is greedy, else [1e-6, 100]
  double top_p = 1.0;        // (0, 1]; 1 keeps all
  int32_t top_k = 0;         // >= 0; 0 keeps all
  double min_p = 0.0;        // [0, 1); 0 keeps all

  // Logits of tokens in prompt or completion: divided by it where positive, else multiplied with
  // it. (0, 100]; 1 does nothing. Source: Keskar et al. 2019, arXiv 1909.05858, section 4.1, in the
  // form that transformers gave it.
  double repetition_penalty = 1.0;
  // Subtracted from the logits of tokens in the completion, once and once per occurrence.
  // [-100, 100]; 0 does nothing.
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  std::vector<LogitBias> logit_bias;  // each token at most once

  std::vector<int32_t> allowed_token_ids;  // nothing else is sampled; empty: all
  std::vector<int32_t> banned_token_ids;   // never sampled
  int32_t min_new_tokens = 0;              // no stop token before so many; >= 0

  bool has_penalties() const {
    return repetition_penalty != 1.0 || presence_penalty != 0.0 || frequency_penalty != 0.0;
  }
  bool edits_logits() const { return has_penalties() || !logit_bias.empty(); }
  bool truncates() const { return top_k > 0 || top_p < 1.0 || min_p > 0.0; }
  bool masks() const {
    return !allowed_token_ids.empty() || !banned_token_ids.empty() || min_new_tokens > 0;
  }
};

inline constexpr size_t kMaxLogitBiases = 1024;
inline constexpr size_t kMaxListedTokens = 1 << 20;  // allowed or banned ones

// kInvalidArgument names the setting that is out of range.
Status CheckSamplingLaw(const SamplingLaw& law);
// Also the ids that the law names.
Status CheckSamplingLaw(const SamplingLaw& law, int64_t vocab_size);

// The tokens before the one that a row of logits predicts.
struct TokenContext {
  std::span<const int32_t> prompt;
  std::span<const int32_t> completion;
};

}  // namespace rollcall
