#include "services/model/config/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>

namespace rollcall {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

// Frequencies whose wavelength is long against the original context are slowed down, short ones
// are left alone, and in between the two are mixed.
void ScaleLlama3(const RopeConfig& rope, std::vector<double>& inverse) {
  const auto context = static_cast<double>(rope.original_max_positions);
  for (double& frequency : inverse) {
    const double turns = context * frequency / kTwoPi;  // in the original context
    if (turns > rope.high_freq_factor) continue;
    if (turns < rope.low_freq_factor) {
      frequency /= rope.factor;
      continue;
    }
    const double smooth =
        (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
    frequency = (1 - smooth) * frequency / rope.factor + smooth * frequency;
  }
}

// The (fractional) index of the frequency that turns `turns` times in the original context.
double YarnDimension(const RopeConfig& rope, double turns, double dim) {
  const auto context = static_cast<double>(rope.original_max_positions);
  return dim * std::log(context / (turns * kTwoPi)) / (2 * std::log(rope.theta));
}

void ScaleYarn(const RopeConfig& rope, int64_t rotary_dim, double factor,
               std::vector<double>& inverse) {
  const auto dim = static_cast<double>(rotary_dim);
  double low = YarnDimension(rope, rope.beta_fast, dim);
  double high = YarnDimension(rope, rope.beta_slow, dim);
  if (rope.is_truncated) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < inverse.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inverse[i] = inverse[i] / factor * ramp + inverse[i] * (1 - ramp);
  }
}

double YarnMscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double YarnScale(const RopeConfig& rope, double factor) {
  if (rope.attention_factor > 0) return rope.attention_factor;
  if (rope.mscale > 0 && rope.mscale_all_dim > 0) {
    return YarnMscale(factor, rope.mscale) / YarnMscale(factor, rope.mscale_all_dim);
  }
  return YarnMscale(factor, 1.0);
}

double LongRopeScale(const RopeConfig& rope, double factor) {
  if (rope.attention_factor > 0) return rope.attention_factor;
  if (factor <= 1) return 1.0;
  return std::sqrt(1 +
                   std::log(factor) / std::log(static_cast<double>(rope.original_max_positions)));
}

Status CheckFactors(const char* key, const std::vector<double>& factors, int64_t wanted) {
  if (static_cast<int64_t>(factors.size()) != wanted) {
    return InvalidArgument(std::string("'") + key + "' holds " + std::to_string(factors.size()) +
                           " numbers; half of a head's rotary dimension is " +
                           std::to_string(wanted));
  }
  for (const double factor : factors) {
    if (!(factor > 0) || !std::isfinite(factor)) {
      return InvalidArgument(std::string("'") + key + "' holds " + std::to_string(factor) +
                             "; expected numbers above 0");
    }
  }
  return OkStatus();
}

}  // namespace

std::string_view RopeTypeName(RopeType type) {
  switch (type) {
    case RopeType::kDefault:
      return "default";
    case RopeType::kLinear:
      return "linear";
    case RopeType::kDynamic:
      return "dynamic";
    case RopeType::kLlama3:
      return "llama3";
    case RopeType::kYarn:
      return "yarn";
    case RopeType::kLongRope:
      return "longrope";
  }
  return "unknown";
}

int64_t RotaryDim(const RopeConfig& rope, int64_t head_dim) {
  return static_cast<int64_t>(static_cast<double>(head_dim) * rope.partial_factor);
}

Status ValidateRope(const RopeConfig& rope, int64_t head_dim) {
  for (const auto& [name, value] :
       {std::pair("rope_theta", rope.theta),
        std::pair("partial_rotary_factor", rope.partial_factor),
        std::pair("low_freq_factor", rope.low_freq_factor),
        std::pair("high_freq_factor", rope.high_freq_factor),
        std::pair("beta_fast", rope.beta_fast), std::pair("beta_slow", rope.beta_slow)}) {
    if (!(value > 0) || !std::isfinite(value)) {
      return InvalidArgument(std::string("'") + name + "' is " + std::to_string(value) +
                             "; expected a number above 0");
    }
  }
  if (rope.partial_factor > 1) {
    return InvalidArgument("'partial_rotary_factor' is " + std::to_string(rope.partial_factor) +
                           "; expected at most 1");
  }
  const int64_t dim = RotaryDim(rope, head_dim);
  if (dim < 2 || dim % 2 != 0) {
    return InvalidArgument("the head dimension is " + std::to_string(head_dim) + " and " +
                           std::to_string(dim) +
                           " of it turn; rotary embedding needs an even number of at least 2");
  }
  const bool has_context = rope.type == RopeType::kLlama3 || rope.type == RopeType::kYarn ||
                           rope.type == RopeType::kLongRope;
  if (has_context && rope.original_max_positions < 2) {
    return InvalidArgument("'original_max_position_embeddings' is " +
                           std::to_string(rope.original_max_positions) + "; expected at least 2");
  }
  if (rope.type == RopeType::kLlama3 && rope.high_freq_factor <= rope.low_freq_factor) {
    return InvalidArgument("'high_freq_factor' is not above 'low_freq_factor'");
  }
  if (rope.type == RopeType::kYarn && rope.theta <= 1) {
    return InvalidArgument("'rope_theta' is " + std::to_string(rope.theta) +
                           "; yarn needs one above 1");
  }
  if (rope.type == RopeType::kLongRope) {
    ROLLCALL_RETURN_IF_ERROR(CheckFactors("short_factor", rope.short_factor, dim / 2));
    ROLLCALL_RETURN_IF_ERROR(CheckFactors("long_factor", rope.long_factor, dim / 2));
  }
  return OkStatus();
}

RopeFrequencies ComputeRopeFrequencies(const RopeConfig& rope, int64_t head_dim,
                                       int64_t max_positions) {
  const int64_t dim = RotaryDim(rope, head_dim);
  RopeFrequencies result;
  for (int64_t i = 0; i < dim / 2; ++i) {
    result.inverse.push_back(
        std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim)));
  }
  double factor = rope.factor;
  if (factor == 0 && rope.original_max_positions > 0) {
    factor = static_cast<double>(max_positions) / static_cast<double>(rope.original_max_positions);
  }
  switch (rope.type) {
    case RopeType::kDefault:
    case RopeType::kDynamic:
      break;
    case RopeType::kLinear:
      for (double& frequency : result.inverse) frequency /= factor;
      break;
    case RopeType::kLlama3:
      ScaleLlama3(rope, result.inverse);
      break;
    case RopeType::kYarn:
      ScaleYarn(rope, dim, factor, result.inverse);
      result.scale = YarnScale(rope, factor);
      break;
    case RopeType::kLongRope:
      for (size_t i = 0; i < result.inverse.size(); ++i) result.inverse[i] /= rope.short_factor[i];
      result.scale = LongRopeScale(rope, factor);
      break;
  }
  return result;
}

}  // namespace rollcall
