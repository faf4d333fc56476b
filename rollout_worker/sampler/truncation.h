// top_k, top_p and min_p over a row of logits: which of them are kept.
//
// The first tokens in the order "larger logit, then lower id" are found without sorting the row: a
// bound on the logit is bisected by vector passes that count and add up what lies above it, until a
// few candidates are left in between, and only those are sorted.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "services/model/kernels/log_softmax.h"
#include "services/model/law/sampling_law.h"

namespace rollcall {

// What is known of the row already.
struct TruncationRow {
  float inverse_temperature = 1;  // > 0
  MassSums sums;                  // of its logits, which are finite
  double total_mass = 0;          // all of its block sums
};

// Keeps buffers. Not thread-safe.
class Truncation {
 public:
  // Places of the logits that the law keeps, ascending, at least one; valid until the next call.
  std::span<const int32_t> Apply(std::span<const float> logits, const TruncationRow& row,
                                 const SamplingLaw& law);

  // Places of the `count` first logits in that order, ascending; valid until the next call.
  std::span<const int32_t> First(std::span<const float> logits, float max_logit, int64_t count);

 private:
  void KeepTopP(std::span<const float> logits, const TruncationRow& row, const SamplingLaw& law,
                bool after_top_k);
  // Logits and masses of outer_ into logits_ and masses_; the sum of the masses.
  double GatherOuter(std::span<const float> logits, float inverse_temperature, float max_scaled);
  // Puts into kept_ the places of the shortest prefix of the order for which `reached` holds.
  template <typename Reached>
  void KeepFirst(std::span<const float> logits, std::span<const float> masses, float max_logit,
                 const Reached& reached);

  std::vector<int32_t> kept_;
  std::vector<int32_t> outer_;  // what a cut before left
  std::vector<int32_t> candidates_;
  std::vector<float> logits_;
  std::vector<float> masses_;
};

}  // namespace rollcall
