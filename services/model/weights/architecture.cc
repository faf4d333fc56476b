#include "services/model/weights/architecture.h"

#include <utility>

namespace rollcall {
namespace {

using enum ParameterRole;

// Collects the parameters in order.
class Lister {
 public:
  explicit Lister(const ModelConfig& config) : config_(config) {}

  void Embeddings() {
    Add("model.embed_tokens.weight", kEmbedding, {config_.vocab_size, config_.hidden_size});
    if (config_.positions == Positions::kLearned) {
      Add("model.embed_positions.weight", kPositionEmbedding,
          {config_.max_positions, config_.hidden_size});
    }
  }

  void Layer(int64_t layer) {
    layer_ = layer;
    prefix_ = "model.layers." + std::to_string(layer) + ".";
    const bool is_before = config_.norm_placement != NormPlacement::kAfter;
    const bool is_after = config_.norm_placement != NormPlacement::kBefore;
    if (is_before) Norm("input_layernorm", kInputNorm, kInputNormBias);
    Attention();
    if (is_after) Norm("post_attention_layernorm", kAttentionOutNorm, kAttentionOutNorm);
    if (is_before) {
      Norm(is_after ? "pre_feedforward_layernorm" : "post_attention_layernorm", kMlpNorm,
           kMlpNormBias);
    }
    Mlp();
    if (is_after) Norm("post_feedforward_layernorm", kMlpOutNorm, kMlpOutNorm);
    layer_ = -1;
    prefix_.clear();
  }

  void Top(Head head) {
    Norm("model.norm", kFinalNorm, kFinalNormBias);
    switch (head) {
      case Head::kLanguageModel:
        if (config_.tie_word_embeddings) return;
        return Add("lm_head.weight", kLmHead, {config_.vocab_size, config_.hidden_size});
      case Head::kValue:
        return Add("value_head.weight", kValueHead, {1, config_.hidden_size});
      case Head::kSequenceScore:
        return Add("score.weight", kScore, {config_.num_labels, config_.hidden_size});
      case Head::kTokenScore:
        Add("score.weight", kScore, {config_.num_labels, config_.hidden_size});
        if (config_.has_score_bias) Add("score.bias", kScoreBias, {config_.num_labels});
        return;
    }
  }

  std::vector<ParameterSpec> Take() { return std::move(list_); }

 private:
  void Add(const std::string& name, ParameterRole role, std::vector<int64_t> shape) {
    list_.push_back({prefix_ + name, role, layer_, std::move(shape)});
  }

  void Norm(const std::string& name, ParameterRole weight, ParameterRole bias) {
    Add(name + ".weight", weight, {config_.hidden_size});
    if (config_.norm_kind == NormKind::kLayer) Add(name + ".bias", bias, {config_.hidden_size});
  }

  void Attention() {
    const int64_t hidden = config_.hidden_size;
    const int64_t query = config_.num_heads * config_.head_dim;
    const int64_t key = config_.num_kv_heads * config_.head_dim;
    const auto project = [&](const std::string& name, ParameterRole weight, ParameterRole bias,
                             int64_t outputs, int64_t inputs, bool has_bias) {
      Add("self_attn." + name + ".weight", weight, {outputs, inputs});
      if (has_bias) Add("self_attn." + name + ".bias", bias, {outputs});
    };
    project("q_proj", kQProj, kQBias, query, hidden, config_.has_qkv_bias);
    project("k_proj", kKProj, kKBias, key, hidden, config_.has_qkv_bias);
    project("v_proj", kVProj, kVBias, key, hidden, config_.has_qkv_bias);
    if (config_.qk_norm != QkNorm::kNone) {
      const bool is_wide = config_.qk_norm == QkNorm::kWide;
      Add("self_attn.q_norm.weight", kQNorm, {is_wide ? query : config_.head_dim});
      Add("self_attn.k_norm.weight", kKNorm, {is_wide ? key : config_.head_dim});
    }
    project("o_proj", kOProj, kOBias, hidden, query, config_.has_o_bias);
  }

  void Mlp() {
    const int64_t hidden = config_.hidden_size;
    const int64_t inner = config_.intermediate_size;
    const auto project = [&](const std::string& name, ParameterRole weight, ParameterRole bias,
                             int64_t outputs, int64_t inputs) {
      Add("mlp." + name + ".weight", weight, {outputs, inputs});
      if (config_.has_mlp_bias) Add("mlp." + name + ".bias", bias, {outputs});
    };
    if (config_.is_mlp_gated) project("gate_proj", kGateProj, kGateBias, inner, hidden);
    project("up_proj", kUpProj, kUpBias, inner, hidden);
    project("down_proj", kDownProj, kDownBias, hidden, inner);
  }

  const ModelConfig& config_;
  std::string prefix_;
  int64_t layer_ = -1;
  std::vector<ParameterSpec> list_;
};

}  // namespace

std::vector<ParameterSpec> ListParameters(const ModelConfig& config, Head head) {
  Lister lister(config);
  lister.Embeddings();
  for (int64_t layer = 0; layer < config.num_layers; ++layer) lister.Layer(layer);
  lister.Top(head);
  return lister.Take();
}

bool IsHeadRole(ParameterRole role) {
  return role == kLmHead || role == kValueHead || role == kScore || role == kScoreBias;
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
