#include "services/model/adapter/lora_weights.h"

#include <cstring>
#include <map>
#include <span>
#include <string_view>
#include <utility>

#include <ATen/ops/empty.h>

namespace rollcall {
namespace {

at::Tensor Leaf(std::span<const float> values, int64_t rows, int64_t columns, Gradients gradients) {
  at::Tensor tensor = at::empty({rows, columns}, at::kFloat);
  std::memcpy(tensor.mutable_data_ptr<float>(), values.data(), values.size_bytes());
  tensor.set_requires_grad(gradients == Gradients::kAccumulate);
  return tensor;
}

// Where the decoder looks for the pair of a parameter; null for one that has no place.
LoraPair* PairOf(LoraWeights& lora, const ParameterSpec& parameter) {
  if (parameter.layer < 0) return nullptr;
  LayerLora& layer = lora.layers[static_cast<size_t>(parameter.layer)];
  switch (parameter.role) {
    case ParameterRole::kQProj:
      return &layer.q_proj;
    case ParameterRole::kKProj:
      return &layer.k_proj;
    case ParameterRole::kVProj:
      return &layer.v_proj;
    case ParameterRole::kOProj:
      return &layer.o_proj;
    case ParameterRole::kGateProj:
      return &layer.gate_proj;
    case ParameterRole::kUpProj:
      return &layer.up_proj;
    case ParameterRole::kDownProj:
      return &layer.down_proj;
    default:
      return nullptr;
  }
}

}  // namespace

Status AttachAdapter(const LoraAdapter& adapter, Gradients gradients, ModelWeights* weights) {
  const ModelConfig& config = weights->config;
  const std::vector<ParameterSpec> parameters = ListParameters(config, weights->head);
  std::map<std::string_view, const LoraModule*> by_name;
  for (const LoraModule& module : adapter.modules) by_name[module.name] = &module;
  return GuardExceptions("attaching an adapter", [&]() -> Status {
    auto lora = std::make_shared<LoraWeights>();
    lora->layers.resize(static_cast<size_t>(config.num_layers));
    lora->base_model = adapter.base_model;
    lora->is_rank_stabilised = adapter.is_rank_stabilised;
    lora->whole_tensors = adapter.whole_tensors;
    for (const LinearModule& linear : ListLinearModules(config, weights->head)) {
      const auto found = by_name.find(linear.name);
      if (found == by_name.end()) continue;
      const LoraModule& module = *found->second;
      LoraWeights::Module attached;
      attached.shape = {.name = module.name,
                        .rank = module.rank,
                        .alpha = module.alpha,
                        .num_inputs = module.num_inputs,
                        .num_outputs = module.num_outputs,
                        .a = {},
                        .b = {}};
      attached.a_RI = Leaf(module.a, module.rank, module.num_inputs, gradients);
      for (const DiskPart& part : linear.parts) {
        const ParameterSpec& parameter = parameters[part.parameter];
        LoraPair* pair = PairOf(*lora, parameter);
        if (pair == nullptr) {
          return InvalidArgument("the adapter of '" + module.name +
                                 "' works merged only: it is no projection of a layer");
        }
        const int64_t num_outputs = parameter.shape.front();
        attached.b_OR.push_back(
            Leaf(LoraRows(module, part, num_outputs), num_outputs, module.rank, gradients));
        *pair = {attached.a_RI, attached.b_OR.back(), LoraScale(adapter, module)};
      }
      lora->modules.push_back(std::move(attached));
    }
    ROLLCALL_RETURN_IF_ERROR(MergeAdapter({.base_model = {},
                                           .is_rank_stabilised = false,
                                           .modules = {},
                                           .whole_tensors = adapter.whole_tensors},
                                          weights));
    weights->lora = std::move(lora);
    return OkStatus();
  });
}

StatusOr<LoraAdapter> DetachedAdapter(const ModelWeights& weights) {
  if (weights.lora == nullptr) return FailedPrecondition("the model has no adapter");
  std::map<std::string_view, const LoraWeights::Module*> by_name;
  for (const LoraWeights::Module& module : weights.lora->modules) {
    by_name[module.shape.name] = &module;
  }
  const std::vector<ParameterSpec> parameters = ListParameters(weights.config, weights.head);
  LoraAdapter adapter{.base_model = weights.lora->base_model,
                      .is_rank_stabilised = weights.lora->is_rank_stabilised,
                      .modules = {},
                      .whole_tensors = weights.lora->whole_tensors};
  for (const LinearModule& linear : ListLinearModules(weights.config, weights.head)) {
    const auto found = by_name.find(linear.name);
    if (found == by_name.end()) continue;
    LoraModule module = found->second->shape;
    const float* a = found->second->a_RI.const_data_ptr<float>();
    module.a.assign(a, a + module.rank * module.num_inputs);
    module.b.resize(static_cast<size_t>(module.num_outputs * module.rank));
    for (size_t i = 0; i < linear.parts.size(); ++i) {
      const at::Tensor& b_OR = found->second->b_OR[i];
      SetLoraRows(linear.parts[i],
                  {b_OR.const_data_ptr<float>(), static_cast<size_t>(b_OR.numel())}, &module);
    }
    adapter.modules.push_back(std::move(module));
  }
  return adapter;
}

}  // namespace rollcall
