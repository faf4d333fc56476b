// Published methods as compositions of parts.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "rollcall/v1/job.pb.h"

namespace rollcall {

struct Preset {
  std::string_view name;
  v1::DataSpec::Kind data_kind;
  std::string_view advantage;
  std::string_view loss;
  std::string_view aggregation;
  std::string_view pair_builder;
  std::string_view correction;
  bool whiten_advantages;
  v1::KlSpec::Placement kl_placement;
  std::string_view kl_estimator;  // empty with placement NONE
  double kl_coefficient;
  std::string_view help;
};

std::span<const Preset> Presets();

// Null when there is no preset of that name.
const Preset* FindPreset(std::string_view name);

// "sft, grpo, ... or online_dpo": for messages.
std::string PresetNames();

// Sets the factors (and data.kind) that the spec leaves out. A spec that names kl.placement none
// gets no estimator and no coefficient.
void ApplyPreset(const Preset& preset, v1::JobSpec* spec);

}  // namespace rollcall
