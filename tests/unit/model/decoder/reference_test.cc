// The decoder and its gradients against transformers, for every architecture, over directories that
// either side wrote.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>
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

// What all tests of one run saw, printed at the end.
struct Worst {
  double logits = 0;
  double gradients = 0;  // relative to the largest of the tensor
  int num_models = 0;
};

// `kind`: logits, padded or steps.
void CompareLogits(const at::Tensor& logits_NV, const PackedBatch& batch,
                   const SafetensorsFile& expected, const std::string& kind, Worst& worst_of_all) {
  INFO(kind);
  const int64_t vocab = logits_NV.size(1);
  const float* got = logits_NV.const_data_ptr<float>();
  double worst = 0;
  double largest = 0;
  for (size_t s = 0; s + 1 < batch.starts.size(); ++s) {
    const auto want = ReadTensor<float>(expected, kind + "." + std::to_string(s));
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
  worst_of_all.logits = std::max(worst_of_all.logits, worst);
}

void CompareScores(const at::Tensor& scores_NL, const PackedBatch& batch,
                   const SafetensorsFile& expected, Head head, Worst& worst_of_all) {
  const int64_t labels = scores_NL.size(1);
  const float* got = scores_NL.const_data_ptr<float>();
  double worst = 0;
  double largest = 0;
  for (size_t s = 0; s + 1 < batch.starts.size(); ++s) {
    const auto want = ReadTensor<float>(expected, "logits." + std::to_string(s));
    const int64_t first = head == Head::kSequenceScore ? batch.starts[s + 1] - 1 : batch.starts[s];
    REQUIRE(static_cast<int64_t>(want.size()) == (batch.starts[s + 1] - first) * labels);
    for (size_t i = 0; i < want.size(); ++i) {
      const double difference =
          std::abs(double{got[first * labels + static_cast<int64_t>(i)]} - double{want[i]});
      if (!(difference <= worst)) worst = difference;
      largest = std::max(largest, std::abs(double{want[i]}));
    }
  }
  CHECK(largest > 0.2);
  CHECK(worst <= 1e-4);
  worst_of_all.logits = std::max(worst_of_all.logits, worst);
}

// Every gradient of the reference, in the layout on disk.
void CompareGradients(const ModelWeights& weights, const SafetensorsFile& expected,
                      Worst& worst_of_all) {
  const at::Tensor& gradients = GradArena(weights);
  const std::span<const float> arena(gradients.const_data_ptr<float>(),
                                     static_cast<size_t>(gradients.numel()));
  std::set<std::string> compared;
  const auto parameters = ListParameters(weights.config, weights.head);
  for (const DiskTensor& tensor : ListDiskTensors(weights.config, weights.head, parameters)) {
    std::vector<std::string> names = {tensor.name};
    names.insert(names.end(), tensor.aliases.begin(), tensor.aliases.end());
    const auto name = std::find_if(names.begin(), names.end(), [&](const std::string& candidate) {
      return expected.Find("grad." + candidate) != nullptr;
    });
    INFO(tensor.name);
    REQUIRE(name != names.end());
    const auto want = ReadTensor<float>(expected, "grad." + *name);
    std::vector<float> got(want.size());
    FillDiskTensor(tensor, weights.layout, arena, got);
    double worst = 0;
    double largest = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double difference = std::abs(double{got[i]} - double{want[i]});
      if (!(difference <= worst)) worst = difference;
      largest = std::max(largest, std::abs(double{want[i]}));
    }
    CHECK(largest > 0);
    CHECK(worst <= 1e-3 * largest);
    worst_of_all.gradients = std::max(worst_of_all.gradients, worst / largest);
    compared.insert("grad." + *name);
  }
  for (const TensorLayout& tensor : expected.header().tensors) {
    INFO(tensor.name);
    CHECK((tensor.name.rfind("grad.", 0) != 0 || compared.contains(tensor.name)));
  }
}

// Half of each sequence at once, then all sequences together token by token, through blocks of
// an odd size: the very same bits.
void CheckPaged(const ModelWeights& weights, const PackedBatch& batch,
                const at::Tensor& logits_NV) {
  const at::NoGradGuard no_grad;
  REQUIRE_OK_AND_ASSIGN(const auto packed, PackWeights(weights));
  const ModelConfig& config = weights.config;
  constexpr int64_t kBlockSize = 5;
  const int64_t blocks_each = config.max_positions / kBlockSize + 1;
  const auto num_sequences = static_cast<int64_t>(batch.starts.size()) - 1;
  std::vector<float> memory(
      static_cast<size_t>(num_sequences * blocks_each * config.num_layers * 2 *
                          config.num_kv_heads * kBlockSize * config.head_dim),
      std::nanf(""));
  const KvPool pool{memory.data(), num_sequences * blocks_each, kBlockSize};
  std::vector<std::vector<int32_t>> tables(static_cast<size_t>(num_sequences));
  for (int64_t block = 0; block < pool.num_blocks; ++block) {
    tables[static_cast<size_t>(block % num_sequences)].push_back(static_cast<int32_t>(block));
  }
  std::vector<int32_t> cached(tables.size(), 0);
  const auto vocab = static_cast<size_t>(config.vocab_size);
  int64_t num_different = 0;
  for (bool is_prefill = true;; is_prefill = false) {
    std::vector<PagedSequence> parts;
    std::vector<int32_t> rows;
    for (size_t s = 0; s < tables.size(); ++s) {
      const int32_t left = batch.starts[s + 1] - batch.starts[s] - cached[s];
      const int32_t num_new = is_prefill ? (left + 1) / 2 : std::min(left, 1);
      parts.push_back({tables[s], cached[s], num_new});
      for (int32_t i = 0; i < num_new; ++i) rows.push_back(batch.starts[s] + cached[s]++);
    }
    if (rows.empty()) break;
    std::vector<int32_t> tokens;
    std::vector<int32_t> positions;
    for (const int32_t row : rows) {
      tokens.push_back(batch.tokens[static_cast<size_t>(row)]);
      positions.push_back(batch.positions[static_cast<size_t>(row)]);
    }
    const auto attention = MakePagedAttention(config, pool, parts);
    REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden_NE,
                          DecoderHidden(weights, packed.get(), tokens, positions, *attention));
    REQUIRE_OK_AND_ASSIGN(const at::Tensor step_NV, Logits(weights, packed.get(), hidden_NE));
    for (size_t i = 0; i < rows.size(); ++i) {
      const float* got = step_NV.const_data_ptr<float>() + i * vocab;
      const float* want = logits_NV.const_data_ptr<float>() + static_cast<size_t>(rows[i]) * vocab;
      if (std::memcmp(got, want, vocab * sizeof(float)) != 0) ++num_different;
    }
  }
  CHECK(num_different == 0);
}

void CompareScoring(ModelWeights& weights, const PackedBatch& batch, const at::Tensor& hidden_NE,
                    const SafetensorsFile& expected, Worst& worst) {
  REQUIRE_OK_AND_ASSIGN(const at::Tensor scores_NL, Scores(weights, hidden_NE));
  CompareScores(scores_NL.detach(), batch, expected, weights.head, worst);
  at::Tensor wanted_NL = scores_NL;
  if (weights.head == Head::kSequenceScore) {
    at::Tensor last_N1 = at::zeros({hidden_NE.size(0), 1}, at::kFloat);
    for (size_t s = 1; s < batch.starts.size(); ++s) {
      last_N1.mutable_data_ptr<float>()[batch.starts[s] - 1] = 1;
    }
    wanted_NL = scores_NL.mul(last_N1);
  }
  const int64_t rows = weights.head == Head::kSequenceScore
                           ? static_cast<int64_t>(batch.starts.size()) - 1
                           : hidden_NE.size(0);
  const at::Tensor loss =
      wanted_NL.mul(wanted_NL).sum().div(static_cast<double>(rows * scores_NL.size(1)));
  CHECK(loss.item().toDouble() == Approx(ReadTensor<float>(expected, "loss")[0]).epsilon(1e-4));
  loss.backward();
}

void Compare(const std::string& directory, Worst& worst) {
  INFO(directory);
  ++worst.num_models;
  const SafetensorsFile expected = OpenFile(directory + "/expected.safetensors");
  const PackedBatch batch = Pack(OpenFile(directory + "/tokens.safetensors"));
  REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo info, CheckModelDirectory(directory));
  REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                        LoadWeights(directory, info.head, Gradients::kAccumulate));
  const auto attention = MakePackedAttention(weights.config, batch.starts);
  REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden_NE,
                        DecoderHidden(weights, nullptr, batch.tokens, batch.positions, *attention));
  if (info.head != Head::kLanguageModel) {
    CHECK(!info.has_output_projection);
    CompareScoring(weights, batch, hidden_NE, expected, worst);
    return CompareGradients(weights, expected, worst);
  }
  REQUIRE_OK_AND_ASSIGN(const at::Tensor logits_NV, Logits(weights, nullptr, hidden_NE));
  for (const char* kind : {"logits", "padded", "steps"}) {
    CompareLogits(logits_NV.detach(), batch, expected, kind, worst);
  }
  CheckPaged(weights, batch, logits_NV.detach());

  REQUIRE_OK_AND_ASSIGN(const TokenLogprobs result,
                        ComputeTokenLogprobs(weights, nullptr, hidden_NE, batch.targets, 1.0));
  const at::Tensor loss =
      result.logprobs_N.mul(batch.mask_N).sum().div(-static_cast<double>(batch.num_targets));
  CHECK(loss.item().toDouble() == Approx(ReadTensor<float>(expected, "loss")[0]).epsilon(1e-5));
  loss.backward();
  CompareGradients(weights, expected, worst);
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

// A model of ours, never seen by transformers.
ModelConfig OwnConfig(const std::string& model_type) {
  ModelConfig config = {.vocab_size = 70,
                        .hidden_size = 24,
                        .intermediate_size = 40,
                        .num_layers = 2,
                        .num_heads = 4,
                        .num_kv_heads = 2,
                        .head_dim = 10,
                        .max_positions = 48,
                        .norm_eps = 1e-4,
                        .rope = {.theta = 700.0},
                        .eos_token_ids = {2, 3},
                        .bos_token_id = 1,
                        .pad_token_id = 0};
  if (model_type == "gpt2" || model_type == "gpt_neox") {
    config.num_kv_heads = 4;
    config.head_dim = 6;
  }
  if (model_type == "phi3" || model_type == "olmo2" || model_type == "qwen2") config.head_dim = 6;
  REQUIRE_OK(SetModelType(model_type, &config));
  return config;
}

void SaveOwnModel(const ModelConfig& config, const std::string& directory) {
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
  REQUIRE_OK(SaveWeights(weights, directory));
  WriteTokens(directory, static_cast<uint64_t>(config.vocab_size));
}

void Print(const char* what, const Worst& worst) {
  std::printf("%s: %d models, logits within %.2g, gradients within %.2g of the largest\n", what,
              worst.num_models, worst.logits, worst.gradients);
}

TEST_CASE("Decoder: logits and gradients of transformers' models, and of the same written again",
          "[unit][model][torch]") {
  if (!HasPython("torch, transformers, safetensors")) return;
  const TempDir dir;
  REQUIRE(RunPython(kScript, "make " + dir.File("made")) == 0);
  Worst made;
  std::string directories;
  for (const auto& entry : std::filesystem::directory_iterator(dir.File("made"))) {
    const std::string directory = entry.path().string();
    Compare(directory, made);
    INFO(directory);
    REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo info, CheckModelDirectory(directory));
    REQUIRE_OK_AND_ASSIGN(const ModelWeights weights,
                          LoadWeights(directory, info.head, Gradients::kNone));
    const std::string again = dir.File("again/" + entry.path().filename().string());
    REQUIRE_OK(SaveWeights(weights, again));
    std::filesystem::copy_file(entry.path() / "tokens.safetensors", again + "/tokens.safetensors");
    directories += " " + again;
  }
  CHECK(made.num_models >= 60);
  Print("made by transformers", made);
  REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo shards,
                        CheckModelDirectory(dir.File("made/bfloat16_shards")));
  CHECK(shards.num_files > 2);
  CHECK(shards.dtype == DType::kBF16);
  CHECK(shards.config.eos_token_ids == std::vector<int32_t>{2, 3});

  for (const std::string& type : KnownModelTypes()) {
    for (const bool is_tied : {false, true}) {
      ModelConfig config = OwnConfig(type);
      config.tie_word_embeddings = is_tied;
      if (is_tied) config.eos_token_ids = {};
      const std::string directory = dir.File("again/own_" + type + (is_tied ? "_tied" : ""));
      SaveOwnModel(config, directory);
      directories += " " + directory;
    }
  }
  REQUIRE(RunPython(kScript, "answer" + directories) == 0);
  Worst again;
  for (const auto& entry : std::filesystem::directory_iterator(dir.File("again"))) {
    Compare(entry.path().string(), again);
  }
  CHECK(again.num_models == made.num_models + 20);
  Print("written here", again);
}

}  // namespace
}  // namespace rollcall
