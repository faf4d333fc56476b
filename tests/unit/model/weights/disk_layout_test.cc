#include "services/model/weights/disk_layout.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "services/model/weights/model_files.h"
#include "services/model/weights/model_writer.h"
#include "services/model/weights/safetensors.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::TempDir;

ModelConfig Config(const std::string& type) {
  ModelConfig config = {.vocab_size = 7,
                        .hidden_size = 4,
                        .intermediate_size = 5,
                        .num_layers = 2,
                        .num_heads = 2,
                        .num_kv_heads = type.starts_with("gpt") ? 2 : 1,
                        .head_dim = 2,
                        .max_positions = 6};
  REQUIRE_OK(SetModelType(type, &config));
  return config;
}

// What a model's arena and files look like; every value of the arena is its index.
struct Model {
  ModelConfig config;
  std::vector<ParameterSpec> parameters;
  std::vector<TensorLayout> layout;
  std::vector<DiskTensor> tensors;
  std::vector<float> arena;

  Model(const std::string& type, Head head) : config(Config(type)) {
    parameters = ListParameters(config, head);
    layout = ArenaLayout(parameters);
    tensors = ListDiskTensors(config, head, parameters);
    for (int64_t i = 0; i < ArenaValues(layout); ++i) arena.push_back(static_cast<float>(i));
  }
  const DiskTensor& Tensor(const std::string& name) const {
    for (const DiskTensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    FAIL("no " << name);
    return tensors.front();
  }
  // Value r, c of a parameter.
  float Value(const std::string& name, int64_t r, int64_t c) const {
    for (const TensorLayout& place : layout) {
      if (place.name != name) continue;
      const int64_t inputs = place.shape.size() == 2 ? place.shape[1] : 1;
      return arena[place.offset_bytes / sizeof(float) + static_cast<size_t>(r * inputs + c)];
    }
    FAIL("no " << name);
    return 0;
  }
  std::vector<float> Filled(const DiskTensor& tensor) const {
    size_t size = 1;
    for (const int64_t length : tensor.shape) size *= static_cast<size_t>(length);
    std::vector<float> values(size, NAN);
    FillDiskTensor(tensor, layout, arena, values);
    return values;
  }
};

TEST_CASE("DiskLayout: every value of a file is one parameter's, there and back", "[unit][model]") {
  for (const std::string& type : KnownModelTypes()) {
    for (const Head head :
         {Head::kLanguageModel, Head::kValue, Head::kSequenceScore, Head::kTokenScore}) {
      INFO(type);
      const Model model(type, head);
      std::vector<float> back(model.arena.size(), NAN);
      size_t num_values = 0;
      for (const DiskTensor& tensor : model.tensors) {
        INFO(tensor.name);
        const std::vector<float> values = model.Filled(tensor);
        for (const float value : values) REQUIRE(!std::isnan(value));
        num_values += values.size();
        ReadDiskTensor(tensor, model.layout, DType::kF32, std::as_bytes(std::span(values)), back);
      }
      const TensorLayout& last = model.layout.back();
      const size_t used = (last.offset_bytes + last.size_bytes) / sizeof(float);
      CHECK(num_values == used);
      CHECK(std::memcmp(back.data(), model.arena.data(), used * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("DiskLayout: fused, transposed and interleaved tensors", "[unit][model]") {
  const std::string attention = "model.layers.1.self_attn.";
  // [inputs, 3 * outputs]: q, k, v side by side.
  const Model gpt2("gpt2", Head::kLanguageModel);
  const DiskTensor& c_attn = gpt2.Tensor("transformer.h.1.attn.c_attn.weight");
  CHECK(c_attn.shape == std::vector<int64_t>{4, 12});
  const std::vector<float> fused = gpt2.Filled(c_attn);
  CHECK(fused[2 * 12 + 3] == gpt2.Value(attention + "q_proj.weight", 3, 2));
  CHECK(fused[1 * 12 + 4] == gpt2.Value(attention + "k_proj.weight", 0, 1));
  CHECK(fused[0 * 12 + 11] == gpt2.Value(attention + "v_proj.weight", 3, 0));
  CHECK(gpt2.Tensor("transformer.wpe.weight").shape == std::vector<int64_t>{6, 4});
  CHECK(gpt2.Tensor("transformer.h.0.mlp.c_fc.weight").shape == std::vector<int64_t>{4, 5});
  CHECK(!gpt2.Tensor("transformer.wte.weight").is_transposed);

  // For each head its q, its k, its v.
  const Model neox("gpt_neox", Head::kLanguageModel);
  const std::vector<float> rows =
      neox.Filled(neox.Tensor("gpt_neox.layers.1.attention.query_key_value.weight"));
  CHECK(rows[1 * 4 + 3] == neox.Value(attention + "q_proj.weight", 1, 3));
  CHECK(rows[2 * 4 + 0] == neox.Value(attention + "k_proj.weight", 0, 0));
  CHECK(rows[6 * 4 + 1] == neox.Value(attention + "q_proj.weight", 2, 1));
  CHECK(rows[11 * 4 + 2] == neox.Value(attention + "v_proj.weight", 3, 2));
  const std::vector<float> bias =
      neox.Filled(neox.Tensor("gpt_neox.layers.1.attention.query_key_value.bias"));
  CHECK(bias[5] == neox.Value(attention + "v_proj.bias", 1, 0));
  neox.Tensor("embed_out.weight");

  const Model phi3("phi3", Head::kLanguageModel);
  const DiskTensor& qkv = phi3.Tensor("model.layers.1.self_attn.qkv_proj.weight");
  CHECK(qkv.shape == std::vector<int64_t>{8, 4});  // four rows of q, two of k, two of v
  CHECK(phi3.Filled(qkv)[7 * 4] == phi3.Value(attention + "v_proj.weight", 1, 0));
  const DiskTensor& gate_up = phi3.Tensor("model.layers.0.mlp.gate_up_proj.weight");
  CHECK(phi3.Filled(gate_up)[5 * 4] == phi3.Value("model.layers.0.mlp.up_proj.weight", 0, 0));
}

TEST_CASE("DiskLayout: halves are widened on the way through a transposition", "[unit][model]") {
  const Model model("gpt2", Head::kLanguageModel);
  const DiskTensor& tensor = model.Tensor("transformer.h.0.mlp.c_fc.weight");
  std::vector<uint16_t> halves(20);
  for (size_t i = 0; i < halves.size(); ++i) {
    halves[i] = static_cast<uint16_t>(0x3f80 + i);  // bfloat16 from 1 on
  }
  std::vector<float> arena(model.arena.size(), 0.0F);
  ReadDiskTensor(tensor, model.layout, DType::kBF16, std::as_bytes(std::span(halves)), arena);
  const TensorLayout& place = model.layout[tensor.parts.front().parameter];
  const float* up = arena.data() + place.offset_bytes / sizeof(float);
  CHECK(up[0] == 1.0F);
  CHECK(up[1 * 4 + 0] == 1.0078125F);         // output 1, input 0: the second of the first row
  CHECK(up[0 * 4 + 1] == 1.0F + 5.0F / 128);  // output 0, input 1: the first of the second row
}

TEST_CASE("DiskLayout: a bare decoder's names are found, as are older ones", "[unit][model]") {
  const TempDir dir;
  for (const auto& [type, from, to] :
       {std::tuple("gpt2", "transformer.", ""), std::tuple("gpt_neox", "embed_out.", "lm_head."),
        std::tuple("llama", "model.", "")}) {
    INFO(type);
    const Model model(type, Head::kLanguageModel);
    std::vector<std::vector<float>> values;
    std::vector<SafetensorsView> views;
    for (const DiskTensor& tensor : model.tensors) values.push_back(model.Filled(tensor));
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      std::string name = model.tensors[i].name;
      if (name.starts_with(from)) name = to + name.substr(std::string(from).size());
      views.push_back({.name = name,
                       .dtype = DType::kF32,
                       .shape = model.tensors[i].shape,
                       .data = std::as_bytes(std::span(values[i]))});
    }
    const std::string directory = std::string("m_") + type;
    dir.Write(directory + "/config.json", ModelConfigToJson(model.config));
    REQUIRE_OK(WriteSafetensors(dir.File(directory + "/model.safetensors"), views, {}));
    REQUIRE_OK(CheckModelDirectory(dir.File(directory)).status());
  }
}

TEST_CASE("WriteModelDirectory: the head decides the class", "[unit][model]") {
  const TempDir dir;
  const Model reward("qwen3", Head::kSequenceScore);
  REQUIRE_OK(
      WriteModelDirectory(dir.File("reward"), reward.config, Head::kSequenceScore, reward.arena));
  REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo info, CheckModelDirectory(dir.File("reward")));
  CHECK(info.head == Head::kSequenceScore);
  CHECK(!info.has_output_projection);
  CHECK(info.config.architecture == "Qwen3ForSequenceClassification");
  CHECK(info.config.num_labels == 1);
  const Model tokens("olmo2", Head::kTokenScore);
  CHECK(WriteModelDirectory(dir.File("tokens"), tokens.config, Head::kTokenScore, tokens.arena)
            .code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace rollcall
