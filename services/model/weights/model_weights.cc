#include "services/model/weights/model_weights.h"

#include <cstring>
#include <span>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "services/model/layers/rotary_table.h"
#include "services/model/weights/model_files.h"
#include "services/model/weights/random_init.h"

namespace rollcall {
namespace {

std::span<float> ArenaSpan(const ModelWeights& weights) {
  return {weights.arena.mutable_data_ptr<float>(), static_cast<size_t>(weights.arena.numel())};
}

// The member that a parameter is.
at::Tensor& Member(ModelWeights& weights, const ParameterSpec& parameter) {
  using enum ParameterRole;
  switch (parameter.role) {
    case kEmbedding:
      return weights.embed_VE;
    case kFinalNorm:
      return weights.final_norm_E;
    case kLmHead:
      return weights.lm_head_VE;
    case kValueHead:
      return weights.value_head_1E;
    default:
      break;
  }
  LayerWeights& layer = weights.layers[static_cast<size_t>(parameter.layer)];
  switch (parameter.role) {
    case kInputNorm:
      return layer.input_norm_E;
    case kQProj:
      return layer.q_proj_OE;
    case kKProj:
      return layer.k_proj_OE;
    case kVProj:
      return layer.v_proj_OE;
    case kOProj:
      return layer.o_proj_EO;
    case kPostNorm:
      return layer.post_norm_E;
    case kGateProj:
      return layer.gate_proj_FE;
    case kUpProj:
      return layer.up_proj_FE;
    default:
      return layer.down_proj_EF;
  }
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
    weights.rotary = std::make_shared<RotaryTable>(config.head_dim, config.rope_theta);
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

StatusOr<ModelWeights> MakeCritic(const ModelWeights& policy, Gradients gradients) {
  ROLLCALL_ASSIGN_OR_RETURN(ModelWeights critic,
                            AllocateWeights(policy.config, Head::kValue, gradients));
  return GuardExceptions("making a critic", [&]() -> StatusOr<ModelWeights> {
    // Both arenas begin with the decoder; only what follows the final norm differs.
    const uint64_t shared_bytes = critic.layout.back().offset_bytes;
    std::memcpy(critic.arena.mutable_data_ptr<float>(), policy.arena.const_data_ptr<float>(),
                shared_bytes);
    return std::move(critic);
  });
}

StatusOr<ModelWeights> LoadWeights(const std::string& directory, Head head, Gradients gradients) {
  ROLLCALL_ASSIGN_OR_RETURN(const ModelFiles files, ModelFiles::Open(directory));
  // Everything is checked before memory is taken.
  const std::vector<ParameterSpec> parameters = ListParameters(files.config(), head);
  std::vector<ModelFiles::Found> found(parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    auto one = files.Find(parameters[i]);
    if (parameters[i].role == ParameterRole::kValueHead &&
        one.status().code() == StatusCode::kNotFound) {
      continue;  // stays zero
    }
    ROLLCALL_RETURN_IF_ERROR(one.status());
    found[i] = *one;
  }
  ROLLCALL_ASSIGN_OR_RETURN(ModelWeights weights, AllocateWeights(files.config(), head, gradients));
  return GuardExceptions("loading '" + directory + "'", [&]() -> StatusOr<ModelWeights> {
    const std::span<float> arena = ArenaSpan(weights);
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (found[i].layout == nullptr) continue;
      const TensorLayout& place = weights.layout[i];
      ConvertToFloat(
          found[i].layout->dtype, found[i].data,
          arena.subspan(place.offset_bytes / sizeof(float), place.size_bytes / sizeof(float)));
    }
    return std::move(weights);
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
