#include "services/model/weights/architecture.h"

#include <utility>

namespace rollcall {

std::vector<ParameterSpec> ListParameters(const ModelConfig& config, Head head) {
  std::vector<ParameterSpec> list;
  const auto add = [&list](std::string name, ParameterRole role, int64_t layer,
                           std::vector<int64_t> shape) {
    list.push_back({std::move(name), role, layer, std::move(shape)});
  };
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  const int64_t query_width = config.num_heads * config.head_dim;
  const int64_t kv_width = config.num_kv_heads * config.head_dim;
  using enum ParameterRole;
  add("model.embed_tokens.weight", kEmbedding, -1, {config.vocab_size, hidden});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", kInputNorm, layer, {hidden});
    add(prefix + "self_attn.q_proj.weight", kQProj, layer, {query_width, hidden});
    add(prefix + "self_attn.k_proj.weight", kKProj, layer, {kv_width, hidden});
    add(prefix + "self_attn.v_proj.weight", kVProj, layer, {kv_width, hidden});
    add(prefix + "self_attn.o_proj.weight", kOProj, layer, {hidden, query_width});
    add(prefix + "post_attention_layernorm.weight", kPostNorm, layer, {hidden});
    add(prefix + "mlp.gate_proj.weight", kGateProj, layer, {inner, hidden});
    add(prefix + "mlp.up_proj.weight", kUpProj, layer, {inner, hidden});
    add(prefix + "mlp.down_proj.weight", kDownProj, layer, {hidden, inner});
  }
  add("model.norm.weight", kFinalNorm, -1, {hidden});
  if (head == Head::kValue) {
    add("value_head.weight", kValueHead, -1, {1, hidden});
  } else if (!config.tie_word_embeddings) {
    add("lm_head.weight", kLmHead, -1, {config.vocab_size, hidden});
  }
  return list;
}

std::vector<TensorLayout> ArenaLayout(const std::vector<ParameterSpec>& parameters) {
  std::vector<TensorLayout> layout;
  layout.reserve(parameters.size());
  uint64_t offset_bytes = 0;
  for (const ParameterSpec& parameter : parameters) {
    uint64_t size_bytes = sizeof(float);
    for (int64_t size : parameter.shape) size_bytes *= static_cast<uint64_t>(size);
    layout.push_back({.name = parameter.name,
                      .dtype = DType::kF32,
                      .shape = parameter.shape,
                      .offset_bytes = offset_bytes,
                      .size_bytes = size_bytes});
    offset_bytes += size_bytes;
  }
  return layout;
}

int64_t ArenaValues(const std::vector<TensorLayout>& layout) {
  if (layout.empty()) return 0;
  const uint64_t bytes = layout.back().offset_bytes + layout.back().size_bytes;
  const int64_t values = static_cast<int64_t>(bytes / sizeof(float));
  return (values + 63) / 64 * 64;
}

}  // namespace rollcall
