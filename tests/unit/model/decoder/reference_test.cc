// The decoder and its gradients against transformers, over directories that either side wrote.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <ATen/ops/zeros.h>

#include "services/base/runtime/random.h"
#include "services/model/decoder/decoder.h"
#include "services/model/weights/model_files.h"
#include "services/model/weights/model_weights.h"
#include "services/model/weights/safetensors.h"
#include "tests/support/catch_torch.h"
#include "tests/support/python.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::HasPython;
using testing::RunPython;
using testing::TempDir;

constexpr const char* kScript = "tests/unit/model/decoder/reference_model.py";

template <typename T>
std::vector<T> ReadTensor(const SafetensorsFile& file, const std::string& name) {
  INFO(file.path() << ": " << name);
  const TensorLayout* layout = file.Find(name);
  REQUIRE(layout != nullptr);
  std::vector<T> values(layout->size_bytes / sizeof(T));
  const auto bytes = file.Data(*layout);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

SafetensorsFile OpenFile(const std::string& path) {
  REQUIRE_OK_AND_ASSIGN(SafetensorsFile file, SafetensorsFile::Open(path));
  return file;
}

// All sequences in one packed call; the targets are the next tokens.
struct PackedBatch {
  std::vector<int32_t> tokens, positions, targets, starts = {0};
  int64_t num_targets = 0;
  at::Tensor mask_N;  // one where there is a target
};

PackedBatch Pack(const SafetensorsFile& file) {
  PackedBatch batch;
  const size_t num_sequences = file.header().tensors.size();
  std::vector<float> mask;
  for (size_t i = 0; i < num_sequences; ++i) {
    const auto sequence = ReadTensor<int32_t>(file, "tokens." + std::to_string(i));
    for (size_t t = 0; t < sequence.size(); ++t) {
      const bool is_last = t + 1 == sequence.size();
      batch.tokens.push_back(sequence[t]);
      batch.positions.push_back(static_cast<int32_t>(t));
      batch.targets.push_back(is_last ? 0 : sequence[t + 1]);
      mask.push_back(is_last ? 0.0F : 1.0F);
      batch.num_targets += is_last ? 0 : 1;
    }
    batch.starts.push_back(static_cast<int32_t>(batch.tokens.size()));
  }
  batch.mask_N = at::zeros({static_cast<int64_t>(mask.size())}, at::kFloat);
  std::memcpy(batch.mask_N.mutable_data_ptr<float>(), mask.data(), mask.size() * sizeof(float));
  return batch;
}

void CompareLogits(const at::Tensor& logits_NV, const PackedBatch& batch,
                   const SafetensorsFile& expected) {
  const int64_t vocab = logits_NV.size(1);
  const float* got = logits_NV.const_data_ptr<float>();
  double worst = 0;
  double largest = 0;
  for (size_t s = 0; s + 1 < batch.starts.size(); ++s) {
    const auto want = ReadTensor<float>(expected, "logits." + std::to_string(s));
    const int64_t rows = batch.starts[s + 1] - batch.starts[s];
    REQUIRE(static_cast<int64_t>(want.size()) == rows * vocab);
    for (int64_t r = 0; r < rows; ++r, got += vocab) {
      const float* row = want.data() + r * vocab;
      CHECK(std::max_element(got, got + vocab) - got == std::max_element(row, row + vocab) - row);
      for (int64_t v = 0; v < vocab; ++v) {
        const double difference = std::abs(double{got[v]} - double{row[v]});
        if (!(difference <= worst)) worst = difference;
        largest = std::max(largest, std::abs(double{row[v]}));
      }
    }
  }
  CHECK(largest > 1.0);  // Not near a uniform distribution, which everybody gets right.
  CHECK(worst <= 1e-4);
}

void CompareGradients(const ModelWeights& weights, const SafetensorsFile& expected) {
  const float* arena = GradArena(weights).const_data_ptr<float>();
  std::set<std::string> compared;
  for (const TensorLayout& tensor : weights.layout) {
    INFO(tensor.name);
    const auto want = ReadTensor<float>(expected, "grad." + tensor.name);
    REQUIRE(want.size() == tensor.size_bytes / sizeof(float));
    const float* got = arena + tensor.offset_bytes / sizeof(float);
    double worst = 0;
    double largest = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double difference = std::abs(double{got[i]} - double{want[i]});
      if (!(difference <= worst)) worst = difference;
      largest = std::max(largest, std::abs(double{want[i]}));
    }
    CHECK(largest > 0);
    CHECK(worst <= 1e-3 * largest);
    compared.insert("grad." + tensor.name);
  }
  for (const TensorLayout& tensor : expected.header().tensors) {
    INFO(tensor.name);
    CHECK((tensor.name.rfind("grad.", 0) != 0 || compared.contains(tensor.name)));
  }
}

void Compare(const std::string& directory) {
  INFO(directory);
  const SafetensorsFile expected = OpenFile(directory + "/expected.safetensors");
  const PackedBatch batch = Pack(OpenFile(directory + "/tokens.safetensors"));
  REQUIRE_OK_AND_ASSIGN(const ModelWeights weights,
                        LoadWeights(directory, Head::kLanguageModel, Gradients::kAccumulate));
  const auto attention = MakePackedAttention(weights.config, batch.starts);
  REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden_NE,
                        DecoderHidden(weights, nullptr, batch.tokens, batch.positions, *attention));
  REQUIRE_OK_AND_ASSIGN(const at::Tensor logits_NV, Logits(weights, nullptr, hidden_NE));
  CompareLogits(logits_NV, batch, expected);

  REQUIRE_OK_AND_ASSIGN(const TokenLogprobs result,
                        ComputeTokenLogprobs(weights, nullptr, hidden_NE, batch.targets, 1.0));
  const at::Tensor loss =
      result.logprobs_N.mul(batch.mask_N).sum().div(-static_cast<double>(batch.num_targets));
  CHECK(loss.item().toDouble() == Approx(ReadTensor<float>(expected, "loss")[0]).epsilon(1e-5));
  loss.backward();
  CompareGradients(weights, expected);
}

void WriteTokens(const std::string& directory, uint64_t vocab_size) {
  CounterRandom random(3);
  std::vector<std::vector<int32_t>> sequences;
  for (const size_t length : {1, 9, 33}) {
    std::vector<int32_t>& sequence = sequences.emplace_back();
    for (size_t t = 0; t < length; ++t) {
      // Not the padding token, 0: transformers keeps its embedding's gradient at zero.
      sequence.push_back(static_cast<int32_t>(1 + random.Below(vocab_size - 1)));
    }
  }
  std::vector<SafetensorsView> views;
  for (size_t i = 0; i < sequences.size(); ++i) {
    views.push_back({.name = "tokens." + std::to_string(i),
                     .dtype = DType::kI32,
                     .shape = {static_cast<int64_t>(sequences[i].size())},
                     .data = std::as_bytes(std::span(sequences[i]))});
  }
  REQUIRE_OK(WriteSafetensors(directory + "/tokens.safetensors", views, {}));
}

TEST_CASE("Decoder: logits and gradients of models made by transformers", "[unit][model][torch]") {
  if (!HasPython("torch, transformers, safetensors")) return;
  const TempDir dir;
  REQUIRE(RunPython(kScript, "make " + dir.path().string()) == 0);
  int num_models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path())) {
    Compare(entry.path().string());
    ++num_models;
  }
  CHECK(num_models == 8);
  REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo shards,
                        CheckModelDirectory(dir.File("bfloat16_shards")));
  CHECK(shards.num_files > 2);
  CHECK(shards.dtype == DType::kBF16);
  CHECK(shards.config.eos_token_ids == std::vector<int32_t>{2, 3});
}

TEST_CASE("SaveWeights: transformers loads what was written and computes the same",
          "[unit][model][torch]") {
  if (!HasPython("torch, transformers, safetensors")) return;
  const TempDir dir;
  const ModelConfig untied = {.vocab_size = 70,
                              .hidden_size = 24,
                              .intermediate_size = 40,
                              .num_layers = 2,
                              .num_heads = 4,
                              .num_kv_heads = 2,
                              .head_dim = 10,
                              .max_positions = 48,
                              .rms_norm_eps = 1e-4,
                              .rope_theta = 700.0,
                              .eos_token_ids = {2, 3},
                              .bos_token_id = 1,
                              .pad_token_id = 0};
  ModelConfig tied = untied;
  tied.tie_word_embeddings = true;
  tied.eos_token_ids = {};
  std::string directories;
  for (const ModelConfig& config : {untied, tied}) {
    REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                          AllocateWeights(config, Head::kLanguageModel, Gradients::kNone));
    REQUIRE_OK(InitializeWeights(5, &weights));
    for (const TensorLayout& tensor : weights.layout) {
      // Matrices far from their small initial values.
      weights.arena
          .narrow(0, static_cast<int64_t>(tensor.offset_bytes / sizeof(float)),
                  static_cast<int64_t>(tensor.size_bytes / sizeof(float)))
          .mul_(tensor.shape.size() == 2 ? 8.0 : 1.25);
    }
    const std::string directory = dir.File(config.tie_word_embeddings ? "tied" : "untied");
    REQUIRE_OK(SaveWeights(weights, directory));
    WriteTokens(directory, static_cast<uint64_t>(config.vocab_size));
    directories += " " + directory;
  }
  REQUIRE(RunPython(kScript, "answer" + directories) == 0);
  Compare(dir.File("untied"));
  Compare(dir.File("tied"));
}

}  // namespace
}  // namespace rollcall
