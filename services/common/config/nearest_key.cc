#include "services/common/config/nearest_key.h"

#include <algorithm>
#include <utility>

namespace rollcall {
namespace {

char Fold(char c) {
  if (c >= 'A' && c <= 'Z') return static_cast<char>(c - 'A' + 'a');
  return c == '-' ? '_' : c;
}

constexpr std::pair<std::string_view, std::string_view> kOtherNames[] = {
    {"adv_estimator", "algorithm.advantage"},
    {"advantage_estimator", "algorithm.advantage"},
    {"answer_field", "data.columns.answer"},
    {"answer_key", "data.columns.answer"},
    {"clip_ratio_high", "algorithm.clip_high"},
    {"clip_ratio_low", "algorithm.clip_low"},
    {"completion_field", "data.columns.completion"},
    {"dataset", "data.path"},
    {"dataset_name", "data.path"},
    {"dataset_split", "data.split"},
    {"dataset_test_split", "evaluate.split"},
    {"dataset_text_field", "data.columns.text"},
    {"dataset_train_split", "data.split"},
    {"eps_clip_high", "algorithm.clip_high"},
    {"eps_clip_low", "algorithm.clip_low"},
    {"epsilon_high", "algorithm.clip_high"},
    {"epsilon_low", "algorithm.clip_low"},
    {"eval_files", "evaluate.path"},
    {"eval_interval", "evaluate.interval_steps"},
    {"experiment_name", "run.name"},
    {"group_size", "rollout.samples_per_prompt"},
    {"input_key", "data.columns.prompt"},
    {"kl_coef", "algorithm.kl.coefficient"},
    {"kl_loss_coef", "algorithm.kl.coefficient"},
    {"label_key", "data.columns.answer"},
    {"lam", "algorithm.lambda"},
    {"lambd", "algorithm.lambda"},
    {"loss_type", "algorithm.loss"},
    {"lr", "optimizer.learning_rate"},
    {"max_completion_length", "rollout.max_new_tokens"},
    {"max_head_offpolicyness", "sync.max_staleness"},
    {"max_off_policy_steps", "sync.max_staleness"},
    {"max_prompt_length", "data.max_prompt_tokens"},
    {"max_response_length", "rollout.max_new_tokens"},
    {"max_samples", "data.max_rows"},
    {"max_steps", "train.total_steps"},
    {"max_tokens_per_mb", "train.max_tokens_per_microbatch"},
    {"max_train_steps", "train.total_steps"},
    {"model_name_or_path", "model.path"},
    {"n_samples_per_prompt", "rollout.samples_per_prompt"},
    {"num_generations", "rollout.samples_per_prompt"},
    {"num_prompts_per_step", "train.prompts_per_step"},
    {"policy_loss_type", "algorithm.loss"},
    {"prompt_data", "data.path"},
    {"prompt_field", "data.columns.prompt"},
    {"prompt_key", "data.columns.prompt"},
    {"response_key", "data.columns.completion"},
    {"reward_funcs", "reward.scorers"},
    {"rollout_batch_size", "train.prompts_per_step"},
    {"save_freq", "checkpoint.interval_steps"},
    {"save_interval", "checkpoint.interval_steps"},
    {"test_freq", "evaluate.interval_steps"},
    {"token_budget", "train.max_tokens_per_microbatch"},
    {"tool_key", "data.columns.tools"},
    {"train_batch_size", "train.prompts_per_step"},
    {"train_files", "data.path"},
    {"train_max_samples", "data.max_rows"},
    {"val_files", "evaluate.path"},
    {"val_period", "evaluate.interval_steps"},
};

}  // namespace

int EditDistance(std::string_view a, std::string_view b) {
  // Rows i-2, i-1 and i of the usual table; optimal string alignment variant.
  std::vector<int> before(b.size() + 1);
  std::vector<int> previous(b.size() + 1);
  std::vector<int> current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int substitution = Fold(a[i - 1]) == Fold(b[j - 1]) ? 0 : 1;
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, previous[j - 1] + substitution});
      if (i > 1 && j > 1 && Fold(a[i - 1]) == Fold(b[j - 2]) && Fold(a[i - 2]) == Fold(b[j - 1])) {
        current[j] = std::min(current[j], before[j - 2] + 1);
      }
    }
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

std::string NearestWord(std::string_view word, const std::vector<std::string>& candidates) {
  if (word.size() > 64) return "";
  std::string nearest;
  int best = std::max<int>(1, static_cast<int>(word.size()) / 3) + 1;
  for (const std::string& candidate : candidates) {
    const int distance = EditDistance(word, candidate);
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  if (!nearest.empty()) return nearest;
  // "max_new" for "max_new_tokens", "tokens" for "max_tokens".
  if (word.size() >= 4) {
    for (const std::string& candidate : candidates) {
      if (candidate.find(word) != std::string::npos) return candidate;
    }
  }
  return "";
}

std::string KeyKnownElsewhereAs(std::string_view word) {
  for (const auto& [name, key] : kOtherNames) {
    if (name == word) return std::string(key);
  }
  return "";
}

}  // namespace rollcall
