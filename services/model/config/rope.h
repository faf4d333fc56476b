// Rotary position embedding: which frequencies a head turns with. Plain data, no torch, no JSON.
// Sources: Su et al. 2021, arXiv 2104.09864; linear: Chen et al. 2023, arXiv 2306.15595; yarn:
// Peng et al. 2023, arXiv 2309.00071; llama3: Llama 3 report, arXiv 2407.21783; longrope: Ding et
// al. 2024, arXiv 2402.13753. The definitions are those that transformers computes.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

enum class RopeType {
  kDefault,
  kLinear,
  kDynamic,  // changes nothing up to max_position_embeddings, beyond which no position is taken
  kLlama3,
  kYarn,
  kLongRope,  // the short factors; positions end where the long ones would begin
};

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;       // base of the wavelengths
  double partial_factor = 1.0;  // share of a head's elements that turn, in (0, 1]
  double factor = 0;            // stretch of the context; 0: the ratio of the two lengths below
  int64_t original_max_positions = 0;  // context before it was stretched
  double low_freq_factor = 1.0;        // llama3
  double high_freq_factor = 4.0;       // llama3
  double attention_factor = 0;         // yarn, longrope: multiplies both waves; 0: derived
  double beta_fast = 32.0;             // yarn
  double beta_slow = 1.0;              // yarn
  double mscale = 0;                   // yarn; 0: not given
  double mscale_all_dim = 0;           // yarn; 0: not given
  bool is_truncated = true;            // yarn: the ramp begins and ends at whole dimensions
  std::vector<double> short_factor;    // longrope, one per frequency
  std::vector<double> long_factor;     // longrope, kept for writing

  bool operator==(const RopeConfig&) const = default;
};

// The name in config.json.
std::string_view RopeTypeName(RopeType type);

// Elements of a head that turn.
int64_t RotaryDim(const RopeConfig& rope, int64_t head_dim);

// kInvalidArgument names the key: a number out of range, lists that do not fit the head.
Status ValidateRope(const RopeConfig& rope, int64_t head_dim);

struct RopeFrequencies {
  std::vector<double> inverse;  // radians per position, RotaryDim / 2 of them
  double scale = 1.0;           // of cosines and sines
};

//   max_positions  of the model as config.json declares it
RopeFrequencies ComputeRopeFrequencies(const RopeConfig& rope, int64_t head_dim,
                                       int64_t max_positions);

}  // namespace rollcall
