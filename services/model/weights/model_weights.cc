#include "services/model/weights/model_weights.h"

#include <cstring>
#include <span>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "services/model/adapter/lora_adapter.h"
#include "services/model/layers/rotary_table.h"
#include "services/model/weights/model_files.h"
#include "services/model/weights/model_writer.h"
#include "services/model/weights/random_init.h"

namespace rollcall {
namespace {

std::span<float> ArenaSpan(const ModelWeights& weights) {
  return {weights.arena.mutable_data_ptr<float>(), static_cast<size_t>(weights.arena.numel())};
}

using enum ParameterRole;

constexpr std::pair<ParameterRole, at::Tensor ModelWeights::*> kModelMembers[] = {
    {kEmbedding, &ModelWeights::embed_VE},
    {kPositionEmbedding, &ModelWeights::position_embed_PE},
    {kFinalNorm, &ModelWeights::final_norm_E},
    {kFinalNormBias, &ModelWeights::final_norm_bias_E},
    {kLmHead, &ModelWeights::lm_head_VE},
    {kValueHead, &ModelWeights::value_head_1E},
    {kScore, &ModelWeights::score_LE},
    {kScoreBias, &ModelWeights::score_bias_L}};

constexpr std::pair<ParameterRole, at::Tensor LayerWeights::*> kLayerMembers[] = {
    {kInputNorm, &LayerWeights::input_norm_E},
    {kInputNormBias, &LayerWeights::input_norm_bias_E},
    {kQProj, &LayerWeights::q_proj_OE},
    {kKProj, &LayerWeights::k_proj_OE},
    {kVProj, &LayerWeights::v_proj_OE},
    {kOProj, &LayerWeights::o_proj_EO},
    {kQBias, &LayerWeights::q_bias_O},
    {kKBias, &LayerWeights::k_bias_O},
    {kVBias, &LayerWeights::v_bias_O},
    {kOBias, &LayerWeights::o_bias_E},
    {kQNorm, &LayerWeights::q_norm},
    {kKNorm, &LayerWeights::k_norm},
    {kAttentionOutNorm, &LayerWeights::attention_out_norm_E},
    {kMlpNorm, &LayerWeights::mlp_norm_E},
    {kMlpNormBias, &LayerWeights::mlp_norm_bias_E},
    {kGateProj, &LayerWeights::gate_proj_FE},
    {kUpProj, &LayerWeights::up_proj_FE},
    {kDownProj, &LayerWeights::down_proj_EF},
    {kGateBias, &LayerWeights::gate_bias_F},
    {kUpBias, &LayerWeights::up_bias_F},
    {kDownBias, &LayerWeights::down_bias_E},
    {kMlpOutNorm, &LayerWeights::mlp_out_norm_E}};

// The member that a parameter is.
at::Tensor& Member(ModelWeights& weights, const ParameterSpec& parameter) {
  for (const auto& [role, member] : kModelMembers) {
    if (role == parameter.role) return weights.*member;
  }
  for (const auto& [role, member] : kLayerMembers) {
    if (role == parameter.role) return weights.layers[static_cast<size_t>(parameter.layer)].*member;
  }
  ROLLCALL_CHECK(false, "a parameter without a member");
  return weights.embed_VE;
}

void MakeRotaryTables(ModelWeights& weights) {
  const ModelConfig& config = weights.config;
  if (config.positions != Positions::kRotary) return;
  const auto make = [&](const RopeConfig& rope) {
    return std::make_shared<RotaryTable>(
        ComputeRopeFrequencies(rope, config.head_dim, DeclaredPositions(config)));
  };
  weights.rotary = make(config.rope);
  if (config.has_sliding_rope) weights.sliding_rotary = make(config.sliding_rope);
}

at::Tensor View(const at::Tensor& arena, const TensorLayout& tensor) {
  return arena
      .narrow(0, static_cast<int64_t>(tensor.offset_bytes / sizeof(float)),
              static_cast<int64_t>(tensor.size_bytes / sizeof(float)))
      .view(tensor.shape);
}

Status CheckArenaBytes(const ModelWeights& weights, uint64_t size_bytes) {
  const uint64_t wanted = weights.arena.nbytes();
  if (size_bytes == wanted) return OkStatus();
  return InvalidArgument("snapshot of weights has " + std::to_string(size_bytes) +
                         " bytes; this model takes " + std::to_string(wanted));
}

}  // namespace

StatusOr<ModelWeights> AllocateWeights(const ModelConfig& config, Head head, Gradients gradients) {
  ROLLCALL_RETURN_IF_ERROR(ValidateModelConfig(config));
  return GuardExceptions("allocating weights", [&]() -> StatusOr<ModelWeights> {
    const at::NoGradGuard no_grad;
    const std::vector<ParameterSpec> parameters = ListParameters(config, head);
    ModelWeights weights;
    weights.config = config;
    weights.head = head;
    weights.layout = ArenaLayout(parameters);
    MakeRotaryTables(weights);
    weights.layers.resize(static_cast<size_t>(config.num_layers));
    weights.arena = at::zeros({ArenaValues(weights.layout)}, at::kFloat);
    if (gradients == Gradients::kAccumulate) {
      weights.grad_arena = at::zeros({weights.arena.numel()}, at::kFloat);
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      at::Tensor& member = Member(weights, parameters[i]);
      // Detached: a leaf of its own that shares the arena's memory.
      member = View(weights.arena, weights.layout[i]).detach();
      if (gradients == Gradients::kAccumulate) {
        member.set_requires_grad(true);
        member.mutable_grad() = View(weights.grad_arena, weights.layout[i]).detach();
      }
    }
    if (head == Head::kLanguageModel && config.tie_word_embeddings) {
      weights.lm_head_VE = weights.embed_VE;
    }
    return weights;
  });
}

at::Tensor GradArena(const ModelWeights& weights) { return weights.grad_arena; }

void ZeroGradients(const ModelWeights& weights) {
  if (!weights.grad_arena.defined()) return;
  std::memset(weights.grad_arena.mutable_data_ptr<float>(), 0, weights.grad_arena.nbytes());
}

Status InitializeWeights(uint64_t seed, ModelWeights* weights) {
  return GuardExceptions("initialising weights", [&]() -> Status {
    FillInitialValues(weights->config, weights->head, seed, ArenaSpan(*weights));
    return OkStatus();
  });
}

StatusOr<ModelWeights> WithHead(const ModelWeights& from, Head head, Gradients gradients) {
  ROLLCALL_ASSIGN_OR_RETURN(ModelWeights made, AllocateWeights(from.config, head, gradients));
  return GuardExceptions("changing a model's head", [&]() -> StatusOr<ModelWeights> {
    // Both arenas begin with the decoder; only what follows the final norm differs.
    uint64_t shared_bytes = 0;
    const std::vector<ParameterSpec> parameters = ListParameters(from.config, head);
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (!IsHeadRole(parameters[i].role)) shared_bytes += made.layout[i].size_bytes;
    }
    std::memcpy(made.arena.mutable_data_ptr<float>(), from.arena.const_data_ptr<float>(),
                shared_bytes);
    return std::move(made);
  });
}

StatusOr<ModelWeights> MakeCritic(const ModelWeights& policy, Gradients gradients) {
  return WithHead(policy, Head::kValue, gradients);
}

StatusOr<ModelWeights> LoadWeights(const std::string& directory, Head head, Gradients gradients) {
  ROLLCALL_ASSIGN_OR_RETURN(const ModelFiles files, ModelFiles::Open(directory));
  // Everything is checked before memory is taken.
  ROLLCALL_RETURN_IF_ERROR(CheckParameters(files, head).status());
  ROLLCALL_ASSIGN_OR_RETURN(ModelWeights weights, AllocateWeights(files.config(), head, gradients));
  return GuardExceptions("loading '" + directory + "'", [&]() -> StatusOr<ModelWeights> {
    ROLLCALL_RETURN_IF_ERROR(ReadParameters(files, head, ArenaSpan(weights)));
    return std::move(weights);
  });
}

Status MergeAdapter(const LoraAdapter& adapter, ModelWeights* weights) {
  return GuardExceptions("merging an adapter", [&]() -> Status {
    MergeAdapter(adapter, weights->config, weights->head, ArenaSpan(*weights));
    return OkStatus();
  });
}

Status SaveWeights(const ModelWeights& weights, const std::string& directory) {
  return GuardExceptions("saving '" + directory + "'", [&]() -> Status {
    return WriteModelDirectory(directory, weights.config, weights.head, ArenaSpan(weights));
  });
}

Status CopyArenaTo(const ModelWeights& weights, std::byte* out, uint64_t size_bytes) {
  ROLLCALL_RETURN_IF_ERROR(CheckArenaBytes(weights, size_bytes));
  return GuardExceptions("copying weights", [&]() -> Status {
    std::memcpy(out, weights.arena.const_data_ptr<float>(), size_bytes);
    return OkStatus();
  });
}

Status CopyArenaFrom(const std::byte* in, uint64_t size_bytes, ModelWeights* weights) {
  ROLLCALL_RETURN_IF_ERROR(CheckArenaBytes(*weights, size_bytes));
  return GuardExceptions("copying weights", [&]() -> Status {
    std::memcpy(weights->arena.mutable_data_ptr<float>(), in, size_bytes);
    return OkStatus();
  });
}

}  // namespace rollcall
