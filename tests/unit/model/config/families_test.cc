// What each architecture's config.json becomes, and back.
#include <initializer_list>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/model/config/model_config.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

using nlohmann::json;

json Sizes(const std::string& architecture) {
  return {
      {"architectures", {architecture}}, {"vocab_size", 32},       {"hidden_size", 16},
      {"intermediate_size", 24},         {"num_hidden_layers", 6}, {"num_attention_heads", 4},
      {"num_key_value_heads", 2},        {"head_dim", 8},          {"max_position_embeddings", 64}};
}

json With(json config, std::initializer_list<std::pair<std::string, json>> changes) {
  for (const auto& [key, value] : changes) config[key] = value;
  return config;
}

ModelConfig Parse(const json& config) {
  INFO(config.dump());
  REQUIRE_OK_AND_ASSIGN(ModelConfig parsed, ParseModelConfig(config.dump(), "config.json"));
  // Whatever was read is written so that it reads the same.
  REQUIRE_OK_AND_ASSIGN(const ModelConfig again,
                        ParseModelConfig(ModelConfigToJson(parsed), "config.json"));
  CHECK(again == parsed);
  return parsed;
}

void Refused(const json& config, const std::string& part) {
  const Status status = ParseModelConfig(config.dump(), "m/config.json").status();
  INFO(config.dump());
  INFO(status.ToString());
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(Message(status).rfind("m/config.json: ", 0) == 0);
  CHECK(Message(status).find(part) != std::string::npos);
}

using Layers = std::vector<uint8_t>;

TEST_CASE("Families: a window over all layers", "[unit][model]") {
  const json mistral = Sizes("MistralForCausalLM");
  CHECK(Parse(mistral).sliding_window == 4096);  // transformers' default
  const ModelConfig narrow = Parse(With(mistral, {{"sliding_window", 5}}));
  CHECK(narrow.sliding_layers == Layers(6, 1));
  CHECK(AttentionOfLayer(narrow, 3).window == 5);
  const ModelConfig none = Parse(With(mistral, {{"sliding_window", nullptr}}));
  CHECK(none.sliding_layers.empty());
  CHECK(AttentionOfLayer(none, 3).window == 0);
  CHECK(Parse(Sizes("Phi3ForCausalLM")).sliding_window == 0);
  Refused(With(mistral, {{"sliding_window", 0}}), "'sliding_window'");
  json few = mistral;
  few.erase("num_key_value_heads");
  Refused(few, "'num_key_value_heads' 8");  // the default does not fit four heads
  few["num_key_value_heads"] = nullptr;
  CHECK(Parse(few).num_kv_heads == 4);
}

TEST_CASE("Families: Qwen slides from a layer on, or by the list", "[unit][model]") {
  const json qwen = Sizes("Qwen2ForCausalLM");
  const ModelConfig off = Parse(With(qwen, {{"sliding_window", 8}, {"max_window_layers", 2}}));
  CHECK(off.sliding_window == 0);
  CHECK(off.has_qkv_bias);
  CHECK(!off.has_o_bias);
  const ModelConfig on = Parse(
      With(qwen, {{"use_sliding_window", true}, {"sliding_window", 8}, {"max_window_layers", 4}}));
  CHECK(on.sliding_layers == Layers{0, 0, 0, 0, 1, 1});
  const json full = "full_attention";
  const json slides = "sliding_attention";
  const ModelConfig listed =
      Parse(With(qwen, {{"use_sliding_window", true},
                        {"layer_types", {slides, full, slides, full, full, full}}}));
  CHECK(listed.sliding_layers == Layers{1, 0, 1, 0, 0, 0});
  Refused(With(qwen, {{"layer_types", {slides, full, slides, full, full, full}}}),
          "no 'sliding_window'");
  Refused(With(qwen, {{"layer_types", {full}}}), "'layer_types'");
  Refused(With(qwen, {{"layer_types", {full, full, full, full, full, "chunked_attention"}}}),
          "chunked_attention");

  const ModelConfig three = Parse(Sizes("Qwen3ForCausalLM"));
  CHECK(three.qk_norm == QkNorm::kHead);
  CHECK(!three.has_qkv_bias);
  json headless = Sizes("Qwen3ForCausalLM");
  headless.erase("head_dim");
  CHECK(Parse(headless).head_dim == 128);
}

TEST_CASE("Families: Gemma", "[unit][model]") {
  const ModelConfig two = Parse(Sizes("Gemma2ForCausalLM"));
  CHECK(two.norm_placement == NormPlacement::kBoth);
  CHECK(two.is_norm_weight_from_one);
  CHECK(two.is_embedding_scaled);
  CHECK(two.tie_word_embeddings);
  CHECK(two.activation == Activation::kGeluTanh);
  CHECK(two.attention_softcap == 50.0);
  CHECK(two.logit_softcap == 30.0);
  CHECK(two.sliding_layers == Layers{1, 0, 1, 0, 1, 0});
  CHECK(AttentionOfLayer(two, 0).scale == 1.0 / 16);
  const ModelConfig plain =
      Parse(With(Sizes("Gemma2ForCausalLM"),
                 {{"attn_logit_softcapping", nullptr}, {"final_logit_softcapping", nullptr}}));
  CHECK(plain.attention_softcap == 0);
  CHECK(plain.logit_softcap == 0);
  Refused(With(Sizes("Gemma2ForCausalLM"), {{"use_bidirectional_attention", true}}),
          "'use_bidirectional_attention'");

  const json gemma3 = Sizes("Gemma3ForCausalLM");
  const ModelConfig three = Parse(gemma3);
  CHECK(three.sliding_layers == Layers{1, 1, 1, 1, 1, 0});
  CHECK(three.rope.theta == 1e6);
  CHECK(three.sliding_rope.theta == 1e4);
  CHECK(AttentionOfLayer(three, 0).is_sliding_rope);
  CHECK(!AttentionOfLayer(three, 5).is_sliding_rope);
  // The same in the spelling of older files.
  const ModelConfig old =
      Parse(With(gemma3, {{"rope_theta", 5e5},
                          {"rope_local_base_freq", 2e4},
                          {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}}));
  CHECK(old.rope.type == RopeType::kLinear);
  CHECK(old.rope.theta == 5e5);
  CHECK(old.sliding_rope.theta == 2e4);
  CHECK(old.sliding_rope.type == RopeType::kDefault);
  Refused(With(gemma3, {{"attn_logit_softcapping", 50.0}}), "'attn_logit_softcapping'");
  Refused(With(gemma3, {{"rope_parameters", {{"full_attention", 3}}}}), "'full_attention'");
  Refused(Sizes("Gemma3ForConditionalGeneration"), "Gemma3ForConditionalGeneration");
}

TEST_CASE("Families: GPT-2 and GPT-NeoX", "[unit][model]") {
  const json gpt2 = {{"architectures", {"GPT2LMHeadModel"}},
                     {"model_type", "gpt2"},
                     {"vocab_size", 32},
                     {"n_embd", 16},
                     {"n_layer", 2},
                     {"n_head", 4},
                     {"n_positions", 64}};
  const ModelConfig two = Parse(gpt2);
  CHECK(two.intermediate_size == 64);
  CHECK(two.positions == Positions::kLearned);
  CHECK(two.norm_kind == NormKind::kLayer);
  CHECK(two.tie_word_embeddings);
  CHECK(!two.is_mlp_gated);
  CHECK(AttentionOfLayer(two, 1).scale == 0.5);
  const ModelConfig scaled = Parse(With(gpt2, {{"scale_attn_by_inverse_layer_idx", true}}));
  CHECK(AttentionOfLayer(scaled, 1).scale == 0.25);
  CHECK(AttentionOfLayer(Parse(With(gpt2, {{"scale_attn_weights", false}})), 1).scale == 1.0);
  Refused(With(gpt2, {{"n_head", 3}}), "'n_embd' 16 is not a multiple of 'n_head' 3");
  Refused(With(gpt2, {{"add_cross_attention", true}}), "'add_cross_attention'");

  json neox = Sizes("GPTNeoXForCausalLM");
  neox["hidden_size"] = 64;
  const ModelConfig parallel = Parse(neox);
  CHECK(parallel.num_kv_heads == 4);  // it has no such key
  CHECK(parallel.head_dim == 16);
  CHECK(parallel.is_residual_parallel);
  CHECK(RotaryDim(parallel.rope, 16) == 4);
  const ModelConfig half = Parse(With(neox, {{"rotary_pct", 0.5}, {"rotary_emb_base", 500}}));
  CHECK(RotaryDim(half.rope, 16) == 8);
  CHECK(half.rope.theta == 500);
  Refused(With(neox, {{"rotary_pct", 1.5}}), "'partial_rotary_factor'");
  Refused(With(neox, {{"rotary_pct", 0.2}}), "even number");
}

TEST_CASE(
    "Families: rotary scalings are read from both spellings and refused where they are not "
    "whole",
    "[unit][model]") {
  const json llama = Sizes("LlamaForCausalLM");
  const json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 32}};
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const ModelConfig config = Parse(With(llama, {{key, llama3}, {"rope_theta", 5e5}}));
    CHECK(config.rope.type == RopeType::kLlama3);
    CHECK(config.rope.theta == 5e5);
    CHECK(config.rope.original_max_positions == 32);
  }
  for (const char* key : {"factor", "low_freq_factor", "high_freq_factor"}) {
    json missing = llama3;
    missing.erase(key);
    Refused(With(llama, {{"rope_scaling", missing}}), "in 'rope_scaling': '" + std::string(key));
    missing[key] = -1;
    Refused(With(llama, {{"rope_scaling", missing}}), std::string(key));
  }
  Refused(With(llama, {{"rope_scaling", With(llama3, {{"high_freq_factor", 0.5}})}}),
          "'high_freq_factor'");
  Refused(With(llama, {{"rope_scaling", {{"type", "linear"}}}}), "'factor' is missing");
  Refused(With(llama, {{"rope_scaling", {{"type", "dynamic"}, {"factor", 0}}}}), "'factor'");
  const ModelConfig yarn =
      Parse(With(llama, {{"rope_scaling", {{"type", "yarn"}, {"factor", 4}}}}));
  CHECK(yarn.rope.original_max_positions == 64);
  Refused(With(llama, {{"rope_scaling", {{"type", "yarn"}, {"truncate", 1}}}}), "'truncate'");

  const json phi3 = Sizes("Phi3ForCausalLM");
  const json factors = {1.0, 1.5, 2.0, 4.0};
  const json longrope = {{"type", "longrope"}, {"short_factor", factors}, {"long_factor", factors}};
  const ModelConfig stretched =
      Parse(With(phi3, {{"rope_scaling", longrope}, {"original_max_position_embeddings", 16}}));
  CHECK(stretched.max_positions == 16);  // there the long factors would begin
  CHECK(stretched.declared_positions == 64);
  Refused(With(phi3, {{"rope_scaling", With(longrope, {{"short_factor", {1.0}}})}}),
          "'short_factor' holds 1 numbers");
  Refused(With(phi3, {{"rope_scaling", With(longrope, {{"long_factor", {1, 1, 1, 0}}})}}),
          "'long_factor' holds");
  Refused(With(phi3, {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}), "longrope");
}

TEST_CASE("Families: a score head has as many outputs as there are labels", "[unit][model]") {
  const ModelConfig reward =
      Parse(With(Sizes("Qwen2ForSequenceClassification"), {{"id2label", {{"0", "good"}}}}));
  CHECK(HeadOfArchitecture(reward) == Head::kSequenceScore);
  CHECK(reward.num_labels == 1);
  const ModelConfig tokens = Parse(With(Sizes("LlamaForTokenClassification"),
                                        {{"num_labels", 3}, {"token_classification_bias", false}}));
  CHECK(HeadOfArchitecture(tokens) == Head::kTokenScore);
  CHECK(tokens.num_labels == 3);
  CHECK(!tokens.has_score_bias);
  CHECK(Parse(Sizes("LlamaForSequenceClassification")).num_labels == 2);  // transformers' default
  Refused(With(Sizes("LlamaForSequenceClassification"), {{"id2label", json::object()}}),
          "'id2label'");
  Refused(Sizes("Olmo2ForTokenClassification"), "Olmo2ForTokenClassification");

  ModelConfig config = Parse(Sizes("Olmo2ForCausalLM"));
  REQUIRE_OK(SetArchitectureHead(Head::kSequenceScore, &config));
  CHECK(config.architecture == "Olmo2ForSequenceClassification");
  CHECK(SetArchitectureHead(Head::kTokenScore, &config).code() == StatusCode::kInvalidArgument);
  REQUIRE_OK(SetArchitectureHead(Head::kValue, &config));
  CHECK(config.architecture == "Olmo2ForCausalLM");
}

TEST_CASE("Families: a fresh model's window follows the architecture", "[unit][model]") {
  ModelConfig config;
  CHECK(SetModelType("mamba", &config).code() == StatusCode::kInvalidArgument);
  config.num_layers = 3;
  REQUIRE_OK(SetModelType("gemma2", &config));
  REQUIRE_OK(SetSlidingWindow(9, &config));
  CHECK(config.sliding_layers == Layers{1, 0, 1});
  REQUIRE_OK(SetModelType("llama", &config));
  CHECK(SetSlidingWindow(9, &config).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Families: a value that nests without end is named, not written out", "[unit][model]") {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  for (const char* key : {"hidden_size", "rope_scaling", "layer_types", "architectures"}) {
    json config = Sizes("Qwen2ForCausalLM");
    config.erase(key);
    std::string text = config.dump();
    text.pop_back();
    const Status status =
        ParseModelConfig(text + ",\"" + key + "\":" + deep + "}", "config.json").status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(Message(status).find("'" + std::string(key) + "' is a nested list") != std::string::npos);
  }
}

}  // namespace
}  // namespace rollcall
