#include "services/common/config/preset.h"

namespace rollcall {
namespace {

using v1::DataSpec;
using v1::KlSpec;

constexpr Preset kPresets[] = {
    {"sft", DataSpec::COMPLETIONS, "none", "nll", "token_mean", "none", "none", false, KlSpec::NONE,
     "", 0, "Supervised fine-tuning."},
    {"grpo", DataSpec::PROMPTS, "group_norm", "ppo_clip", "seq_mean_token_mean", "none", "none",
     false, KlSpec::LOSS, "k3", 0.04, "Shao et al. 2024, arXiv 2402.03300."},
    {"dr_grpo", DataSpec::PROMPTS, "group_mean", "ppo_clip", "seq_mean_token_sum_const", "none",
     "none", false, KlSpec::NONE, "", 0, "Liu et al. 2025, arXiv 2503.20783."},
    {"rloo", DataSpec::PROMPTS, "leave_one_out", "reinforce", "seq_mean_token_sum", "none", "none",
     false, KlSpec::REWARD, "k1", 0.03, "Ahmadian et al. 2024, arXiv 2402.14740."},
    {"reinforce_pp", DataSpec::PROMPTS, "return_to_go", "ppo_clip", "token_mean", "none", "none",
     true, KlSpec::REWARD, "k1", 0.01, "Hu et al. 2025, arXiv 2501.03262."},
    {"ppo", DataSpec::PROMPTS, "gae", "ppo_clip", "token_mean", "none", "none", true,
     KlSpec::REWARD, "k1", 0.05, "Schulman et al. 2017, arXiv 1707.06347."},
    {"dpo", DataSpec::PAIRS, "none", "dpo", "item_mean", "as_given", "none", false, KlSpec::NONE,
     "", 0, "Rafailov et al. 2023, arXiv 2305.18290."},
    {"online_dpo", DataSpec::PROMPTS, "none", "dpo", "item_mean", "best_worst", "none", false,
     KlSpec::NONE, "", 0, "Guo et al. 2024, arXiv 2402.04792."},
};

}  // namespace

std::span<const Preset> Presets() { return kPresets; }

const Preset* FindPreset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name == name) return &preset;
  }
  return nullptr;
}

std::string PresetNames() {
  std::string names;
  const std::span<const Preset> presets = Presets();
  for (size_t i = 0; i < presets.size(); ++i) {
    if (i > 0) names += i + 1 == presets.size() ? " or " : ", ";
    names += presets[i].name;
  }
  return names;
}

void ApplyPreset(const Preset& preset, v1::JobSpec* spec) {
  if (!spec->data().has_kind()) spec->mutable_data()->set_kind(preset.data_kind);
  v1::AlgorithmSpec& algorithm = *spec->mutable_algorithm();
  if (!algorithm.has_advantage()) algorithm.set_advantage(std::string(preset.advantage));
  if (!algorithm.has_loss()) algorithm.set_loss(std::string(preset.loss));
  if (!algorithm.has_aggregation()) algorithm.set_aggregation(std::string(preset.aggregation));
  if (!algorithm.has_pair_builder()) algorithm.set_pair_builder(std::string(preset.pair_builder));
  if (!algorithm.has_correction()) algorithm.set_correction(std::string(preset.correction));
  if (!algorithm.has_whiten_advantages()) {
    algorithm.set_whiten_advantages(preset.whiten_advantages);
  }
  v1::KlSpec& kl = *algorithm.mutable_kl();
  if (!kl.has_placement()) kl.set_placement(preset.kl_placement);
  if (kl.placement() == KlSpec::NONE || preset.kl_placement == KlSpec::NONE) return;
  if (!kl.has_estimator()) kl.set_estimator(std::string(preset.kl_estimator));
  if (!kl.has_coefficient()) kl.set_coefficient(preset.kl_coefficient);
}

}  // namespace rollcall
