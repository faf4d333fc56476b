#include "services/model/config/model_config.h"

#include <initializer_list>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "tests/support/catch.h"

namespace rollcall {
namespace {

using nlohmann::json;

json Smallest() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"vocab_size", 32},
          {"hidden_size", 16},
          {"intermediate_size", 24},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"max_position_embeddings", 64}};
}

json With(std::initializer_list<std::pair<std::string, json>> changes) {
  json config = Smallest();
  for (const auto& [key, value] : changes) config[key] = value;
  return config;
}

StatusOr<ModelConfig> Parse(const json& config) {
  return ParseModelConfig(config.dump(), "m/config.json");
}

// The message of a config that must be refused.
std::string Refused(const std::string& text) {
  const Status status = ParseModelConfig(text, "m/config.json").status();
  INFO(text);
  REQUIRE(status.code() == StatusCode::kInvalidArgument);
  const std::string message = Message(status);
  CHECK(message.rfind("m/config.json: ", 0) == 0);
  CHECK(message.size() < 400);
  return message;
}

bool Contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

TEST_CASE("ModelConfig: what is left out has the defaults of transformers", "[unit][model]") {
  REQUIRE_OK_AND_ASSIGN(const ModelConfig config, Parse(Smallest()));
  CHECK(config.num_kv_heads == 4);
  CHECK(config.head_dim == 4);
  CHECK(config.norm_eps == 1e-6);
  CHECK(config.rope.theta == 10000.0);
  CHECK(!config.tie_word_embeddings);
  CHECK(config.eos_token_ids.empty());
  CHECK(config.bos_token_id == -1);
  CHECK(config.pad_token_id == -1);

  // JSON null means absent.
  REQUIRE_OK_AND_ASSIGN(const ModelConfig nulls, Parse(With({{"num_key_value_heads", nullptr},
                                                             {"head_dim", nullptr},
                                                             {"rope_scaling", nullptr},
                                                             {"eos_token_id", nullptr},
                                                             {"sliding_window", nullptr}})));
  CHECK(nulls.num_kv_heads == 4);
  CHECK(nulls.head_dim == 4);
}

TEST_CASE("ModelConfig: both spellings of the rotary base", "[unit][model]") {
  REQUIRE_OK_AND_ASSIGN(const ModelConfig old, Parse(With({{"rope_theta", 5e5}})));
  CHECK(old.rope.theta == 5e5);
  REQUIRE_OK_AND_ASSIGN(
      const ModelConfig recent,
      Parse(With({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 100}}}})));
  CHECK(recent.rope.theta == 100);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    CHECK(Contains(Refused(With({{key, {{"rope_type", "mrope"}}}}).dump()), "'rope_type'"));
    CHECK(Contains(Refused(With({{key, {{"type", 3}}}}).dump()), "'type'"));
    CHECK(Contains(Refused(With({{key, 2}}).dump()), "expected an object"));
  }
}

TEST_CASE("ModelConfig: one end token or several", "[unit][model]") {
  REQUIRE_OK_AND_ASSIGN(const ModelConfig one, Parse(With({{"eos_token_id", 2}})));
  CHECK(one.eos_token_ids == std::vector<int32_t>{2});
  REQUIRE_OK_AND_ASSIGN(const ModelConfig two, Parse(With({{"eos_token_id", {2, 31}}})));
  CHECK(two.eos_token_ids == std::vector<int32_t>{2, 31});
  const std::initializer_list<json> wrong = {32,
                                             -2,
                                             "2",
                                             true,
                                             json::object(),
                                             json::array({2, 32}),
                                             json::array({-1}),
                                             json::array({1.5}),
                                             json::array({18446744073709551615U}),
                                             json::array({nullptr})};
  for (const json& value : wrong) {
    CHECK(Contains(Refused(With({{"eos_token_id", value}}).dump()), "'eos_token_id'"));
  }
  CHECK(Contains(Refused(With({{"pad_token_id", 32}}).dump()), "'pad_token_id'"));
  CHECK(Contains(Refused(With({{"bos_token_id", "<s>"}}).dump()), "'bos_token_id'"));
}

TEST_CASE("ModelConfig: what is not built is refused by name", "[unit][model]") {
  CHECK(Contains(Refused(With({{"architectures", {"MambaForCausalLM"}}}).dump()),
                 "\"MambaForCausalLM\" is not supported; known: LlamaForCausalLM"));
  for (const json& value : {json(nullptr), json("LlamaForCausalLM"), json::array(),
                            json::array({1}), json::array({"LlamaForCausalLM", "X"})}) {
    CHECK(Contains(Refused(With({{"architectures", value}}).dump()), "'architectures'"));
  }
  const std::pair<const char*, json> features[] = {
      {"model_type", "mamba"},       {"hidden_act", "gelu_fast"},
      {"attention_bias", "false"},   {"mlp_bias", 1},
      {"sliding_window", 8},         {"quantization_config", {{"bits", 4}}},
      {"num_local_experts", 8},      {"num_experts", 4},
      {"n_routed_experts", 2},       {"is_encoder_decoder", true},
      {"partial_rotary_factor", 0.5}};
  for (const auto& [key, value] : features) {
    CHECK(Contains(Refused(With({{key, value}}).dump()), "'" + std::string(key) + "'"));
  }
}

TEST_CASE("ModelConfig: a key that is missing, of another type or out of range is named",
          "[unit][model]") {
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads", "max_position_embeddings"}) {
    json missing = Smallest();
    missing.erase(key);
    CHECK(Contains(Refused(missing.dump()), "'" + std::string(key) + "' is missing"));
  }
  const json not_sizes[] = {0,
                            -1,
                            2.5,
                            "16",
                            true,
                            1e30,
                            json::array({16}),
                            json::object(),
                            int64_t{1} << 62,
                            18446744073709551615U,
                            std::string(100'000, 'x')};
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const json& value : not_sizes) {
      CHECK(Contains(Refused(With({{key, value}}).dump()), "'" + std::string(key) + "'"));
    }
  }
  for (const char* key : {"rms_norm_eps", "rope_theta"}) {
    for (const json& value : {json(0), json(-1e-5), json("1e-5"), json(true)}) {
      CHECK(Contains(Refused(With({{key, value}}).dump()), "'" + std::string(key) + "'"));
    }
  }
  CHECK(Contains(Refused(With({{"tie_word_embeddings", 1}}).dump()), "'tie_word_embeddings'"));
}

TEST_CASE("ModelConfig: sizes that do not fit together", "[unit][model]") {
  CHECK(Contains(Refused(With({{"num_attention_heads", 3}}).dump()),
                 "'hidden_size' 16 is not a multiple of 'num_attention_heads' 3"));
  CHECK(Contains(Refused(With({{"num_key_value_heads", 3}}).dump()),
                 "'num_attention_heads' 4 is not a multiple of 'num_key_value_heads' 3"));
  CHECK(Contains(Refused(With({{"num_key_value_heads", 8}}).dump()),
                 "is not a multiple of 'num_key_value_heads' 8"));
  CHECK(Contains(Refused(With({{"head_dim", 5}}).dump()), "the head dimension is 5"));
  CHECK(Contains(Refused(With({{"num_attention_heads", 16}}).dump()), "the head dimension is 1"));
  // With a head dimension of its own, the heads need not divide the hidden size.
  REQUIRE_OK_AND_ASSIGN(const ModelConfig config,
                        Parse(With({{"num_attention_heads", 3}, {"head_dim", 10}})));
  CHECK(config.head_dim == 10);

  ModelConfig plain;
  CHECK(Contains(Message(ValidateModelConfig(plain)), "'vocab_size' is 0"));
}

TEST_CASE("ModelConfig: text that is not a JSON object", "[unit][model]") {
  for (const std::string& text :
       {std::string(), std::string("null"), std::string("[]"), std::string("{"),
        std::string("{\"vocab_size\": \xff}"), std::string("{\"a\": \"\xc3\x28\"}"),
        std::string("{\"a\": 1e999}"), std::string(1 << 16, '['), std::string("\0\0", 2),
        Smallest().dump() + "x"}) {
    CHECK(Contains(Refused(text), "not a JSON object"));
  }
}

TEST_CASE("ModelConfig: what is written reads back", "[unit][model]") {
  ModelConfig config = {.vocab_size = 100,
                        .hidden_size = 24,
                        .intermediate_size = 40,
                        .num_layers = 3,
                        .num_heads = 4,
                        .num_kv_heads = 2,
                        .head_dim = 10,
                        .max_positions = 77,
                        .norm_eps = 3e-6,
                        .rope = {.theta = 12345.5},
                        .tie_word_embeddings = true,
                        .eos_token_ids = {3, 5},
                        .bos_token_id = 1,
                        .pad_token_id = 0};
  for (const std::vector<int32_t>& eos : {std::vector<int32_t>{3, 5}, {4}, {}}) {
    config.eos_token_ids = eos;
    REQUIRE_OK_AND_ASSIGN(const ModelConfig back,
                          ParseModelConfig(ModelConfigToJson(config), "config.json"));
    CHECK(back == config);
  }
  // 100*24, three layers of q 24*40, k and v 24*20 each, o 40*24, mlp 3*24*40, norms 2*24; norm 24.
  CHECK(NumParameters(config) == 2400 + 3 * (960 + 960 + 960 + 2880 + 48) + 24);
  config.tie_word_embeddings = false;
  CHECK(NumParameters(config) == 2400 + 3 * (960 + 960 + 960 + 2880 + 48) + 24 + 2400);
}

}  // namespace
}  // namespace rollcall
