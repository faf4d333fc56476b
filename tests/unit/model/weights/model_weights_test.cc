#include "services/model/weights/model_weights.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "services/model/weights/model_files.h"
#include "tests/support/catch_torch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::TempDir;

ModelConfig TinyConfig() {
  return {.vocab_size = 11,
          .hidden_size = 8,
          .intermediate_size = 12,
          .num_layers = 2,
          .num_heads = 2,
          .num_kv_heads = 1,
          .head_dim = 4,
          .max_positions = 16};
}

ModelWeights Make(Head head, uint64_t seed) {
  REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                        AllocateWeights(TinyConfig(), head, Gradients::kNone));
  REQUIRE_OK(InitializeWeights(seed, &weights));
  return weights;
}

std::vector<std::byte> Bytes(const ModelWeights& weights) {
  std::vector<std::byte> bytes(weights.arena.nbytes());
  REQUIRE_OK(CopyArenaTo(weights, bytes.data(), bytes.size()));
  return bytes;
}

TEST_CASE("LoadWeights: bit for bit what SaveWeights wrote", "[unit][model][torch]") {
  const TempDir dir;
  const ModelWeights policy = Make(Head::kLanguageModel, 3);
  REQUIRE_OK(SaveWeights(policy, dir.File("policy")));
  REQUIRE_OK_AND_ASSIGN(
      const ModelWeights same,
      LoadWeights(dir.File("policy"), Head::kLanguageModel, Gradients::kAccumulate));
  CHECK(Bytes(same) == Bytes(policy));
  CHECK(same.lm_head_VE.requires_grad());

  // A critic that starts from the policy has a head of zeros.
  REQUIRE_OK_AND_ASSIGN(const ModelWeights critic,
                        LoadWeights(dir.File("policy"), Head::kValue, Gradients::kNone));
  REQUIRE_OK_AND_ASSIGN(ModelWeights made, MakeCritic(policy, Gradients::kNone));
  CHECK(Bytes(critic) == Bytes(made));
  CHECK(!critic.lm_head_VE.defined());
  made.value_head_1E.fill_(0.25);
  REQUIRE_OK(SaveWeights(made, dir.File("critic")));
  REQUIRE_OK_AND_ASSIGN(const ModelWeights trained,
                        LoadWeights(dir.File("critic"), Head::kValue, Gradients::kNone));
  CHECK(Bytes(trained) == Bytes(made));
  CHECK(trained.value_head_1E.const_data_ptr<float>()[7] == 0.25F);
  const Status no_head =
      LoadWeights(dir.File("critic"), Head::kLanguageModel, Gradients::kNone).status();
  CHECK(no_head.code() == StatusCode::kNotFound);
  CHECK(Message(no_head).find("lm_head.weight") != std::string::npos);
}

TEST_CASE("LoadWeights: passes on what is wrong with the files", "[unit][model][torch]") {
  const TempDir dir;
  const auto load = [&] {
    return LoadWeights(dir.File("m"), Head::kLanguageModel, Gradients::kNone).status();
  };
  CHECK(load().code() == StatusCode::kNotFound);
  REQUIRE_OK(SaveWeights(Make(Head::kLanguageModel, 3), dir.File("m")));
  REQUIRE_OK(load());
  ModelConfig wider = TinyConfig();
  wider.vocab_size = 12;
  dir.Write("m/config.json", ModelConfigToJson(wider));
  CHECK(load().code() == StatusCode::kInvalidArgument);
  CHECK(Message(load()).find("model.embed_tokens.weight") != std::string::npos);
  std::filesystem::resize_file(dir.path() / "m/model.safetensors", 100);
  CHECK(load().code() == StatusCode::kDataLoss);
}

TEST_CASE("AllocateWeights: parameters and gradients are views of one arena each",
          "[unit][model][torch]") {
  ModelConfig config = TinyConfig();
  config.tie_word_embeddings = true;
  REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                        AllocateWeights(config, Head::kLanguageModel, Gradients::kAccumulate));
  CHECK(weights.arena.numel() % 64 == 0);
  CHECK(weights.layout.size() == 1 + 2 * 9 + 1);
  CHECK(weights.lm_head_VE.const_data_ptr<float>() == weights.embed_VE.const_data_ptr<float>());
  const TensorLayout& last = weights.layout.back();
  CHECK(weights.final_norm_E.const_data_ptr<float>() ==
        weights.arena.const_data_ptr<float>() + last.offset_bytes / sizeof(float));
  weights.final_norm_E.mul(3.0).sum().backward();
  CHECK(GradArena(weights).const_data_ptr<float>()[last.offset_bytes / sizeof(float)] == 3.0F);
  weights.final_norm_E.mul(3.0).sum().backward();
  CHECK(GradArena(weights).const_data_ptr<float>()[last.offset_bytes / sizeof(float)] == 6.0F);
  ZeroGradients(weights);
  CHECK(GradArena(weights).abs().sum().item().toDouble() == 0);
  weights.final_norm_E.mul(2.0).sum().backward();
  CHECK(GradArena(weights).const_data_ptr<float>()[last.offset_bytes / sizeof(float)] == 2.0F);
}

TEST_CASE("CopyArenaFrom: only a snapshot of this size", "[unit][model][torch]") {
  const ModelWeights from = Make(Head::kLanguageModel, 3);
  ModelWeights to = Make(Head::kLanguageModel, 4);
  std::vector<std::byte> bytes = Bytes(from);
  REQUIRE_OK(CopyArenaFrom(bytes.data(), bytes.size(), &to));
  CHECK(Bytes(to) == bytes);
  for (const uint64_t size :
       {uint64_t{0}, uint64_t{bytes.size() - 4}, uint64_t{bytes.size() + 4}}) {
    CHECK(CopyArenaFrom(bytes.data(), size, &to).code() == StatusCode::kInvalidArgument);
    CHECK(CopyArenaTo(from, bytes.data(), size).code() == StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace rollcall
