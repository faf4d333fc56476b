#include "services/cli/job_plan.h"

#include <fmt/format.h>

#include "services/cli/render/text.h"
#include "services/common/config/method_parts.h"
#include "services/common/config/spec_checks.h"

namespace rollcall {
namespace {

constexpr int64_t kBytesPerValue = 4;  // float32, but for a KV cache in bfloat16
// What a rollout worker sets aside unless told otherwise (--kv-cache-mib).
constexpr int64_t kWorkerKvCacheBytes = 256LL << 20;

// Values that one token leaves behind in the forward pass until the backward pass has used them:
// per layer the two norms, queries, keys, values, attention output and residuals, and four rows of
// the feed-forward block; over the whole the logits with their gradient.
int64_t ActivationValuesPerToken(const ModelConfig& model) {
  const int64_t query = model.num_heads * model.head_dim;
  const int64_t key_value = model.num_kv_heads * model.head_dim;
  const int64_t layer =
      5 * model.hidden_size + 2 * query + 2 * key_value + 4 * model.intermediate_size;
  return model.num_layers * layer + 2 * model.hidden_size + 2 * model.vocab_size;
}

MemoryPlan PlanMemory(const v1::JobSpec& spec, const ModelConfig& model) {
  MemoryPlan memory;
  const unsigned needs = MethodNeeds(spec.algorithm());
  memory.num_parameters = NumParameters(model);
  memory.parameters = memory.num_parameters * kBytesPerValue;
  memory.gradients = memory.parameters;
  memory.optimizer = 2 * memory.parameters;
  if ((needs & kNeedsReference) != 0) memory.reference = memory.parameters;
  if ((needs & kNeedsCritic) != 0) memory.critic = 4 * memory.parameters;
  memory.activations =
      spec.train().max_tokens_per_microbatch() * kBytesPerValue * ActivationValuesPerToken(model);
  memory.learner_rank = memory.parameters + memory.gradients + memory.optimizer + memory.reference +
                        memory.critic + memory.activations;
  memory.kv_bytes_per_token =
      2 * model.num_layers * model.num_kv_heads * model.head_dim *
      (spec.model().dtype() == v1::ModelSpec::BFLOAT16 ? kBytesPerValue / 2 : kBytesPerValue);
  memory.worker_parameters = 2 * memory.parameters;
  memory.kv_cache = kWorkerKvCacheBytes;
  memory.rollout_worker = memory.worker_parameters + memory.kv_cache;
  return memory;
}

const char* KindText(v1::DataSpec::Kind kind) {
  return kind == v1::DataSpec::COMPLETIONS ? "rows"
         : kind == v1::DataSpec::PAIRS     ? "pairs"
                                           : "prompts";
}

}  // namespace

JobPlan PlanJob(const v1::JobSpec& spec, const std::optional<ModelConfig>& model) {
  JobPlan plan;
  BatchPlan& batch = plan.batch;
  const v1::TrainSpec& train = spec.train();
  batch.prompts_per_step = train.prompts_per_step();
  batch.samples_per_prompt = spec.data().kind() == v1::DataSpec::PROMPTS
                                 ? spec.rollout().samples_per_prompt()
                                 : (spec.data().kind() == v1::DataSpec::PAIRS ? 2 : 1);
  batch.sequences_per_step = batch.prompts_per_step * batch.samples_per_prompt;
  const int64_t longest = model.has_value()
                              ? std::min(MaxSequenceTokens(spec), model->max_positions)
                              : MaxSequenceTokens(spec);
  batch.max_tokens_per_step = batch.sequences_per_step * longest;
  batch.updates_per_step =
      static_cast<int64_t>(train.epochs_per_step()) * train.minibatches_per_epoch();
  batch.total_steps = train.total_steps();
  batch.total_updates = batch.total_steps * batch.updates_per_step;
  batch.total_sequences = batch.total_steps * batch.sequences_per_step;

  if (model.has_value()) {
    plan.memory = PlanMemory(spec, *model);
    if (MaxSequenceTokens(spec) > model->max_positions) {
      plan.notes.push_back(fmt::format(
          "the model has {} positions; rows that need more are dropped and counted, though "
          "data.max_prompt_tokens {} would allow them",
          model->max_positions, spec.data().max_prompt_tokens()));
    }
  }
  if (batch.updates_per_step > 1 && spec.algorithm().loss() == "reinforce") {
    plan.notes.push_back(fmt::format(
        "loss reinforce makes {} updates from each batch without a clip; ppo_clip is made for that",
        batch.updates_per_step));
  }
  if (spec.sync().max_staleness() > 0 && spec.algorithm().correction() == "none") {
    plan.notes.push_back(
        "sync.max_staleness above 0 without algorithm.correction: stale samples "
        "are trained on as they are; token_truncate is made for that");
  }
  if (!spec.evaluate().has_path()) {
    plan.notes.push_back("no evaluate.path: nothing will tell how well held-out prompts do");
  }
  return plan;
}

std::vector<std::string> PlanLines(const v1::JobSpec& spec, const JobPlan& plan) {
  const BatchPlan& batch = plan.batch;
  std::vector<std::string> lines;
  const bool is_online = spec.data().kind() == v1::DataSpec::PROMPTS;
  std::string step = fmt::format("{} {}", batch.prompts_per_step, KindText(spec.data().kind()));
  if (batch.samples_per_prompt > 1) {
    step +=
        fmt::format(" x {} {} = {} {}", batch.samples_per_prompt, is_online ? "samples" : "sides",
                    batch.sequences_per_step, is_online ? "completions" : "sequences");
  }
  lines.push_back(
      fmt::format("a step    {}, at most {} tokens; {} epochs x {} minibatches = {} "
                  "optimizer updates",
                  step, batch.max_tokens_per_step, spec.train().epochs_per_step(),
                  spec.train().minibatches_per_epoch(), batch.updates_per_step));
  lines.push_back(fmt::format("the job   {} steps, {} optimizer updates, {} {}", batch.total_steps,
                              batch.total_updates, batch.total_sequences,
                              is_online ? "completions" : "sequences"));
  if (plan.memory.has_value()) {
    const MemoryPlan& memory = *plan.memory;
    lines.push_back(fmt::format("model     {} parameters",
                                HumanCount(static_cast<double>(memory.num_parameters))));
    const auto bytes = [](int64_t value) { return HumanBytes(static_cast<double>(value)); };
    std::string parts =
        fmt::format("parameters {}, gradients {}, optimizer {}", bytes(memory.parameters),
                    bytes(memory.gradients), bytes(memory.optimizer));
    if (memory.reference > 0) parts += ", reference " + bytes(memory.reference);
    if (memory.critic > 0) parts += ", critic " + bytes(memory.critic);
    parts += fmt::format(", activations {} at {} tokens", bytes(memory.activations),
                         spec.train().max_tokens_per_microbatch());
    lines.push_back(fmt::format("memory    learner rank (each of {}) about {}: {}",
                                spec.resources().learner_ranks(), bytes(memory.learner_rank),
                                parts));
    if (is_online || spec.evaluate().has_path()) {
      lines.push_back(fmt::format(
          "          rollout worker about {}: two versions of the parameters {}, KV cache {} ({} a "
          "token)",
          bytes(memory.rollout_worker), bytes(memory.worker_parameters), bytes(memory.kv_cache),
          bytes(memory.kv_bytes_per_token)));
    }
  } else {
    lines.push_back("memory    not known: the model directory cannot be read here");
  }
  for (const std::string& note : plan.notes) lines.push_back("note      " + note);
  return lines;
}

}  // namespace rollcall
