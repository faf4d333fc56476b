// Adapters against PEFT: merged and kept apart, in and out.
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/neg.h>

#include "services/model/adapter/lora_weights.h"
#include "services/model/decoder/decoder.h"
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

constexpr const char* kScript = "tests/unit/model/adapter/reference_adapter.py";

template <typename T>
std::vector<T> ReadTensor(const SafetensorsFile& file, const std::string& name) {
  const TensorLayout* layout = file.Find(name);
  REQUIRE(layout != nullptr);
  std::vector<T> values(layout->size_bytes / sizeof(T));
  std::memcpy(values.data(), file.Data(*layout).data(), layout->size_bytes);
  return values;
}

std::vector<float> LogitsOf(const ModelWeights& weights, const std::vector<int32_t>& tokens) {
  const at::NoGradGuard no_grad;
  std::vector<int32_t> positions(tokens.size());
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i);
  const auto attention =
      MakePackedAttention(weights.config, {0, static_cast<int32_t>(tokens.size())});
  REQUIRE_OK_AND_ASSIGN(const at::Tensor hidden,
                        DecoderHidden(weights, nullptr, tokens, positions, *attention));
  REQUIRE_OK_AND_ASSIGN(const at::Tensor logits, Logits(weights, nullptr, hidden));
  return {logits.const_data_ptr<float>(), logits.const_data_ptr<float>() + logits.numel()};
}

double MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max<double>(worst, std::abs(a[i] - b[i]));
  return worst;
}

// Largest difference, relative to the largest expected value.
double RelativeDifference(const std::vector<float>& got, const std::vector<float>& expected) {
  double largest = 1e-12;
  for (const float value : expected) largest = std::max<double>(largest, std::abs(value));
  return MaxDifference(got, expected) / largest;
}

// Gradients of the mean negative log-likelihood of the next tokens, in the adapter's own form.
LoraAdapter GradientsOf(const ModelWeights& weights, const std::vector<int32_t>& tokens) {
  const auto num_targets = static_cast<int32_t>(tokens.size()) - 1;
  std::vector<int32_t> positions(num_targets);
  for (int32_t i = 0; i < num_targets; ++i) positions[i] = i;
  const auto attention = MakePackedAttention(weights.config, {0, num_targets});
  REQUIRE_OK_AND_ASSIGN(
      const at::Tensor hidden,
      DecoderHidden(weights, nullptr, std::span(tokens).first(num_targets), positions, *attention));
  REQUIRE_OK_AND_ASSIGN(
      const TokenLogprobs pass,
      ComputeTokenLogprobs(weights, nullptr, hidden, std::span(tokens).subspan(1), 1.0));
  at::neg(at::mean(pass.logprobs_N)).backward();
  LoraAdapter gradients;
  for (size_t m = 0; m < weights.lora->modules.size(); ++m) {
    const LoraWeights::Module& module = weights.lora->modules[m];
    LoraModule gradient = module.shape;
    const at::Tensor a = module.a_RI.grad().contiguous();
    gradient.a.assign(a.const_data_ptr<float>(), a.const_data_ptr<float>() + a.numel());
    gradient.b.resize(static_cast<size_t>(gradient.num_outputs * gradient.rank));
    for (const LinearModule& linear : ListLinearModules(weights.config, weights.head)) {
      if (linear.name != gradient.name) continue;
      for (size_t i = 0; i < linear.parts.size(); ++i) {
        const at::Tensor b = module.b_OR[i].grad().contiguous();
        SetLoraRows(linear.parts[i], {b.const_data_ptr<float>(), static_cast<size_t>(b.numel())},
                    &gradient);
      }
    }
    gradients.modules.push_back(std::move(gradient));
  }
  return gradients;
}

// The adapter beside the model: the same logits, PEFT's gradients, and the same adapter back.
void CheckAttached(const std::string& folder, const LoraAdapter& adapter,
                   const SafetensorsFile& expected) {
  REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                        LoadWeights(folder + "/base", Head::kLanguageModel, Gradients::kNone));
  const bool is_of_head = !adapter.whole_tensors.empty();
  const Status attached = AttachAdapter(adapter, Gradients::kAccumulate, &weights);
  if (is_of_head) {
    CHECK(attached.code() == StatusCode::kInvalidArgument);
    return;
  }
  REQUIRE_OK(attached);
  const auto tokens = ReadTensor<int32_t>(expected, "tokens");
  CHECK(MaxDifference(LogitsOf(weights, tokens), ReadTensor<float>(expected, "logits")) <= 1e-4);
  for (const LoraModule& gradient : GradientsOf(weights, tokens).modules) {
    const std::string stem = "grad.base_model.model." + gradient.name;
    INFO(stem);
    CHECK(RelativeDifference(gradient.a, ReadTensor<float>(expected, stem + ".lora_A.weight")) <=
          1e-3);
    CHECK(RelativeDifference(gradient.b, ReadTensor<float>(expected, stem + ".lora_B.weight")) <=
          1e-3);
  }
  REQUIRE_OK_AND_ASSIGN(const LoraAdapter again, DetachedAdapter(weights));
  REQUIRE(again.modules.size() == adapter.modules.size());
  for (size_t i = 0; i < again.modules.size(); ++i) {
    CHECK(again.modules[i].a == adapter.modules[i].a);
    CHECK(again.modules[i].b == adapter.modules[i].b);
  }
}

TEST_CASE("LoraAdapter: PEFT's adapters give PEFT's logits here, and ours load in PEFT",
          "[unit][model][torch][python]") {
  if (!HasPython("torch, transformers, peft")) return;
  const TempDir dir;
  REQUIRE(RunPython(kScript, "make " + dir.path().string()) == 0);
  int num_cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path().string())) {
    const std::string folder = entry.path().string();
    INFO(folder);
    ++num_cases;
    REQUIRE_OK_AND_ASSIGN(const SafetensorsFile expected,
                          SafetensorsFile::Open(folder + "/expected.safetensors"));
    const auto tokens = ReadTensor<int32_t>(expected, "tokens");
    const auto logits = ReadTensor<float>(expected, "logits");
    REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                          LoadWeights(folder + "/base", Head::kLanguageModel, Gradients::kNone));
    REQUIRE_OK_AND_ASSIGN(LoraAdapter adapter,
                          ReadAdapter(folder + "/adapter", weights.config, weights.head));
    CHECK(MaxDifference(LogitsOf(weights, tokens), logits) > 1e-3);  // the adapter does something
    CheckAttached(folder, adapter, expected);
    REQUIRE_OK(MergeAdapter(adapter, &weights));
    CHECK(MaxDifference(LogitsOf(weights, tokens), logits) <= 1e-4);

    // Another adapter of the same base, made and written here.
    REQUIRE_OK_AND_ASSIGN(LoraAdapter own, MakeAdapter(weights.config, weights.head,
                                                       {.rank = 3, .alpha = 4.5, .seed = 9}));
    for (LoraModule& module : own.modules) {
      for (size_t i = 0; i < module.b.size(); ++i) {
        module.b[i] = 0.05F * static_cast<float>(static_cast<int>(i % 7) - 3);
      }
    }
    own.modules[1].alpha = 9;
    own.whole_tensors = std::move(adapter.whole_tensors);
    REQUIRE_OK(WriteAdapter(folder + "/written", weights.config, weights.head, own));
    REQUIRE_OK_AND_ASSIGN(ModelWeights fresh,
                          LoadWeights(folder + "/base", Head::kLanguageModel, Gradients::kNone));
    REQUIRE_OK(MergeAdapter(own, &fresh));
    const std::vector<float> ours = LogitsOf(fresh, tokens);
    REQUIRE_OK(
        WriteSafetensors(folder + "/written.safetensors",
                         {{.name = "tokens",
                           .dtype = DType::kI32,
                           .shape = {static_cast<int64_t>(tokens.size())},
                           .data = std::as_bytes(std::span(tokens))},
                          {.name = "logits",
                           .shape = {static_cast<int64_t>(tokens.size()), fresh.config.vocab_size},
                           .data = std::as_bytes(std::span(ours))}},
                         {}));
  }
  CHECK(num_cases == 6);
  CHECK(RunPython(kScript, "check " + dir.path().string()) == 0);
}

}  // namespace
}  // namespace rollcall
