#include "services/model/adapter/lora_adapter.h"

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "services/common/storage/files.h"
#include "services/model/weights/safetensors.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::TempDir;

ModelConfig TinyConfig(const std::string& model_type = "llama") {
  ModelConfig config{.vocab_size = 11,
                     .hidden_size = 8,
                     .intermediate_size = 12,
                     .num_layers = 2,
                     .num_heads = 2,
                     .num_kv_heads = model_type == "gpt2" || model_type == "gpt_neox" ? 2 : 1,
                     .head_dim = 4,
                     .max_positions = 16};
  REQUIRE_OK(SetModelType(model_type, &config));
  return config;
}

std::vector<float> Arena(const ModelConfig& config) {
  std::vector<float> arena(
      static_cast<size_t>(ArenaValues(ArenaLayout(ListParameters(config, Head::kLanguageModel)))));
  for (size_t i = 0; i < arena.size(); ++i) arena[i] = static_cast<float>(i % 97) / 64.0F;
  return arena;
}

// B becomes something else than zero, different in every element.
void Fill(LoraAdapter* adapter) {
  float value = 0.001F;
  for (LoraModule& module : adapter->modules) {
    for (float& b : module.b) b = (value += 0.001F);
  }
}

TEST_CASE("LoraAdapter: a fresh one changes nothing, and depends on seed and name alone",
          "[unit][model]") {
  const ModelConfig config = TinyConfig();
  REQUIRE_OK_AND_ASSIGN(const LoraAdapter adapter,
                        MakeAdapter(config, Head::kLanguageModel, {.rank = 3, .seed = 5}));
  CHECK(adapter.modules.size() == 14);
  std::vector<float> arena = Arena(config);
  MergeAdapter(adapter, config, Head::kLanguageModel, arena);
  CHECK(arena == Arena(config));

  REQUIRE_OK_AND_ASSIGN(
      const LoraAdapter fewer,
      MakeAdapter(config, Head::kLanguageModel, {.rank = 3, .targets = {"v_proj"}, .seed = 5}));
  REQUIRE(fewer.modules.size() == 2);
  CHECK(fewer.modules[0].name == "model.layers.0.self_attn.v_proj");
  CHECK(fewer.modules[0].a == adapter.modules[2].a);
  CHECK(fewer.modules[0].a != fewer.modules[1].a);
  const float bound = 1.0F / std::sqrt(8.0F);
  for (const float a : fewer.modules[0].a) CHECK(std::abs(a) <= bound);
}

TEST_CASE("LoraAdapter: merging adds scale * B A to the module's weight alone", "[unit][model]") {
  const ModelConfig config = TinyConfig();
  REQUIRE_OK_AND_ASSIGN(
      LoraAdapter adapter,
      MakeAdapter(config, Head::kLanguageModel, {.rank = 2, .alpha = 6, .targets = {"k_proj"}}));
  adapter.modules.resize(1);
  LoraModule& module = adapter.modules[0];
  REQUIRE(module.num_outputs == 4);
  module.a.assign(16, 0.0F);
  module.a[0] = 1;      // A[0][0]
  module.a[8 + 3] = 2;  // A[1][3]
  module.b = {1, 0, 0, 1, 0, 0, 5, 7};
  const std::vector<float> before = Arena(config);
  std::vector<float> after = before;
  MergeAdapter(adapter, config, Head::kLanguageModel, after);
  // scale 6 / 2 = 3; B A has rows (1,0,..), (0,0,0,2,..), 0, (5,0,0,14,..).
  const auto layout = ArenaLayout(ListParameters(config, Head::kLanguageModel));
  for (const TensorLayout& tensor : layout) {
    for (size_t i = 0; i < tensor.size_bytes / sizeof(float); ++i) {
      const size_t at = tensor.offset_bytes / sizeof(float) + i;
      float expected = before[at];
      if (tensor.name == "model.layers.0.self_attn.k_proj.weight") {
        if (i == 0) expected += 3;
        if (i == 8 + 3) expected += 6;
        if (i == 24) expected += 15;
        if (i == 24 + 3) expected += 42;
      }
      INFO(tensor.name << " " << i);
      REQUIRE(after[at] == Approx(expected));
    }
  }
}

TEST_CASE("LoraAdapter: rank-stabilised adapters divide by the root of the rank", "[unit][model]") {
  LoraAdapter adapter;
  const LoraModule module{.name = "m", .rank = 16, .alpha = 8, .a = {}, .b = {}};
  CHECK(LoraScale(adapter, module) == Approx(0.5));
  adapter.is_rank_stabilised = true;
  CHECK(LoraScale(adapter, module) == Approx(2.0));
}

TEST_CASE("LoraAdapter: what is written is read again, for every way that modules lie on disk",
          "[unit][model]") {
  for (const char* type : {"llama", "gpt2", "gpt_neox", "phi3"}) {
    const ModelConfig config = TinyConfig(type);
    const TempDir dir;
    REQUIRE_OK_AND_ASSIGN(LoraAdapter adapter,
                          MakeAdapter(config, Head::kLanguageModel, {.rank = 2, .alpha = 5}));
    Fill(&adapter);
    adapter.modules[1].alpha = 7;
    adapter.base_model = "somewhere/base";
    REQUIRE_OK(WriteAdapter(dir.path().string(), config, Head::kLanguageModel, adapter));
    REQUIRE_OK_AND_ASSIGN(const LoraAdapter again,
                          ReadAdapter(dir.path().string(), config, Head::kLanguageModel));
    INFO(type);
    CHECK(again.base_model == adapter.base_model);
    REQUIRE(again.modules.size() == adapter.modules.size());
    for (size_t i = 0; i < again.modules.size(); ++i) {
      CHECK(again.modules[i].name == adapter.modules[i].name);
      CHECK(again.modules[i].rank == adapter.modules[i].rank);
      CHECK(again.modules[i].alpha == adapter.modules[i].alpha);
      CHECK(again.modules[i].a == adapter.modules[i].a);
      CHECK(again.modules[i].b == adapter.modules[i].b);
    }
  }
}

TEST_CASE("LoraAdapter: an unknown target is refused with those that there are", "[unit][model]") {
  const auto made = MakeAdapter(TinyConfig(), Head::kLanguageModel, {.targets = {"qproj"}});
  REQUIRE(made.status().code() == StatusCode::kInvalidArgument);
  CHECK(Message(made.status()).find("'qproj'") != std::string::npos);
  CHECK(Message(made.status()).find("q_proj") != std::string::npos);
}

TEST_CASE("LoraAdapter: what cannot be applied is refused by name", "[unit][model]") {
  const ModelConfig config = TinyConfig();
  const TempDir dir;
  REQUIRE_OK_AND_ASSIGN(const LoraAdapter adapter,
                        MakeAdapter(config, Head::kLanguageModel, {.rank = 2}));
  REQUIRE_OK(WriteAdapter(dir.path().string(), config, Head::kLanguageModel, adapter));
  const std::string path = dir.path().string() + "/adapter_config.json";
  REQUIRE_OK_AND_ASSIGN(const std::string good, ReadFile(path, 1 << 20));
  const auto refused = [&](const std::string& from, const std::string& to,
                           const std::string& part) {
    std::string text = good;
    REQUIRE(text.find(from) != std::string::npos);
    text.replace(text.find(from), from.size(), to);
    REQUIRE_OK(WriteFileAtomic(path, text));
    const auto read = ReadAdapter(dir.path().string(), config, Head::kLanguageModel);
    INFO(to << ": " << read.status().ToString());
    CHECK_FALSE(read.ok());
    CHECK(Message(read.status()).find(part) != std::string::npos);
  };
  refused("\"LORA\"", "\"IA3\"", "peft_type");
  refused("\"use_dora\": false", "\"use_dora\": true", "use_dora");
  refused("\"bias\": \"none\"", "\"bias\": \"all\"", "bias");
  refused("\"lora_alpha\": 16.0", "\"lora_alpha\": \"x\"", "lora_alpha");
  refused("\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_.*\": 3}", "q_.*");
  refused("{", "[", "not a JSON object");
  REQUIRE_OK(WriteFileAtomic(path, good));

  // Another base: a width and a module that do not fit.
  ModelConfig wide = config;
  wide.intermediate_size = 16;
  const auto misfit = ReadAdapter(dir.path().string(), wide, Head::kLanguageModel);
  CHECK(Message(misfit.status()).find("asks for [16, rank]") != std::string::npos);
  const auto other = ReadAdapter(dir.path().string(), TinyConfig("gpt2"), Head::kLanguageModel);
  CHECK(Message(other.status()).find("has no linear module") != std::string::npos);

  // Half an adapter.
  const std::string weights = dir.path().string() + "/adapter_model.safetensors";
  const std::vector<float> half(16, 0.0F);
  REQUIRE_OK(
      WriteSafetensors(weights,
                       {{.name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                         .shape = {2, 8},
                         .data = std::as_bytes(std::span(half))}},
                       {}));
  const auto incomplete = ReadAdapter(dir.path().string(), config, Head::kLanguageModel);
  CHECK(Message(incomplete.status()).find("has no lora_B.weight") != std::string::npos);
  std::filesystem::remove(weights);
  CHECK(ReadAdapter(dir.path().string(), config, Head::kLanguageModel).status().code() ==
        StatusCode::kNotFound);
}

}  // namespace
}  // namespace rollcall
