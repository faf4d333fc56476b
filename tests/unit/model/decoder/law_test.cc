// Log-probabilities under a law: penalties, bias and kept sets.
#include <memory>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>

#include "services/base/runtime/random.h"
#include "services/model/decoder/decoder.h"
#include "services/model/law/logit_edits.h"
#include "services/model/weights/model_weights.h"
#include "tests/support/catch_torch.h"

namespace rollcall {
namespace {

using Tokens = std::vector<int32_t>;
using Floats = std::vector<float>;

ModelWeights RandomWeights(double softcap) {
  ModelConfig config{.vocab_size = 61,
                     .hidden_size = 32,
                     .intermediate_size = 45,
                     .num_layers = 1,
                     .num_heads = 4,
                     .num_kv_heads = 2,
                     .head_dim = 8,
                     .max_positions = 128};
  config.logit_softcap = softcap;
  REQUIRE_OK_AND_ASSIGN(ModelWeights weights,
                        AllocateWeights(config, Head::kLanguageModel, Gradients::kNone));
  REQUIRE_OK(InitializeWeights(11, &weights));
  CounterRandom random(12);
  float* values = weights.arena.mutable_data_ptr<float>();
  for (int64_t i = 0; i < weights.arena.numel(); ++i) {
    values[i] += 0.3F * static_cast<float>(random.Normal());
  }
  return weights;
}

Tokens RandomTokens(size_t length) {
  CounterRandom random(78);
  Tokens tokens(length);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.Below(61));
  return tokens;
}

Floats ToFloats(const at::Tensor& tensor) {
  const float* data = tensor.const_data_ptr<float>();
  return {data, data + tensor.numel()};
}

// A row's law: kept sets of every form, and a context that the penalties read.
struct LawFixture {
  explicit LawFixture(int64_t num_rows) : context(RandomTokens(static_cast<size_t>(num_rows))) {
    CounterRandom random(77);
    KeptSetWriter writer;
    std::string codes;
    for (int64_t n = 0; n < num_rows; ++n) {
      std::vector<int32_t> kept;
      const double share = n % 3 == 0 ? 1.0 : n % 3 == 1 ? 0.2 : 0.8;
      for (int32_t id = 0; id < 61; ++id) {
        if (random.Uniform() < share || id == 5) kept.push_back(id);
      }
      targets.push_back(kept[random.Below(kept.size())]);
      REQUIRE_OK(writer.Append(kept, 61, &codes));
    }
    auto parsed = KeptSets::Parse(codes, num_rows, 61);
    REQUIRE_OK(parsed.status());
    sets = *std::move(parsed);
    laws->law = {.repetition_penalty = 1.4,
                 .presence_penalty = 0.3,
                 .frequency_penalty = 0.2,
                 .logit_bias = {{5, 1.5F}}};
    for (int64_t n = 0; n < num_rows; ++n) {
      laws->rows_N.push_back(
          {.context = {std::span(context).first(3),
                       std::span(context).subspan(3, static_cast<size_t>(n) / 2)},
           .kept = &sets,
           .number = n});
    }
  }

  Tokens context;
  Tokens targets;
  KeptSets sets;
  std::shared_ptr<RowLaws> laws = std::make_shared<RowLaws>();
};

}  // namespace

TEST_CASE("Decoder: log-probabilities under a law are those of the edited, kept logits",
          "[unit][model][torch]") {
  const at::NoGradGuard no_grad;
  const ModelWeights weights = RandomWeights(0);
  const LawFixture fixture(30);
  const at::Tensor hidden_NE = at::rand({30, 32}, at::kFloat);
  REQUIRE_OK_AND_ASSIGN(const at::Tensor logits_NV, Logits(weights, nullptr, hidden_NE));
  const Floats logits = ToFloats(logits_NV);
  REQUIRE_OK_AND_ASSIGN(
      const TokenLogprobs result,
      ComputeTokenLogprobs(weights, nullptr, hidden_NE, fixture.targets, 0.9, fixture.laws));
  const Floats logprobs = ToFloats(result.logprobs_N);
  LogitEdits edits(61);
  for (size_t n = 0; n < 30; ++n) {
    Floats row(logits.begin() + static_cast<ptrdiff_t>(n) * 61,
               logits.begin() + static_cast<ptrdiff_t>(n + 1) * 61);
    edits.Apply(fixture.laws->law, fixture.laws->rows_N[n].context, row);
    Floats kept;
    size_t place = 0;
    for (int32_t id = 0; id < 61; ++id) {
      if (!fixture.sets.Contains(static_cast<int64_t>(n), id)) continue;
      if (id == fixture.targets[n]) place = kept.size();
      kept.push_back(row[static_cast<size_t>(id)]);
    }
    Floats expected(kept.size());
    LogSoftmaxRow(kept, 0.9, expected);
    CHECK(expected[place] == logprobs[n]);
  }
  Tokens outside = fixture.targets;
  for (int32_t id = 0; id < 61; ++id) {
    if (!fixture.sets.Contains(1, id)) outside[1] = id;
  }
  CHECK(Message(
            ComputeTokenLogprobs(weights, nullptr, hidden_NE, outside, 0.9, fixture.laws).status())
            .find("kept") != std::string::npos);
  CHECK(!ComputeTokenLogprobs(weights, nullptr, hidden_NE.narrow(0, 0, 5),
                              std::span(outside).first(5), 0.9, fixture.laws)
             .ok());
}

TEST_CASE("Decoder: gradients under a law match finite differences", "[unit][model][torch]") {
  const LawFixture fixture(12);
  for (const double softcap : {0.0, 5.0}) {
    ModelWeights weights = RandomWeights(softcap);
    const at::Tensor hidden_NE = at::rand({12, 32}, at::kFloat);
    const at::Tensor head_VE = weights.lm_head_VE.detach().clone();
    const at::Tensor mix_N = at::rand({12}, at::kFloat);
    const at::Tensor entropy_mix_N = at::rand({12}, at::kFloat);
    const auto loss = [&](const at::Tensor& hidden, const at::Tensor& head) {
      weights.lm_head_VE = head;
      const auto result =
          ComputeTokenLogprobs(weights, nullptr, hidden, fixture.targets, 0.8, fixture.laws);
      REQUIRE_OK(result.status());
      return at::sum(
          at::add(at::mul(result->logprobs_N, mix_N), at::mul(result->entropy_N, entropy_mix_N)));
    };
    at::Tensor hidden = hidden_NE.clone().set_requires_grad(true);
    at::Tensor head = head_VE.clone().set_requires_grad(true);
    loss(hidden, head).backward();
    const at::NoGradGuard no_grad;
    constexpr double kStep = 1e-3;
    for (int trial = 0; trial < 4; ++trial) {
      const at::Tensor dhidden = at::sub(at::rand({12, 32}, at::kFloat), 0.5);
      const at::Tensor dhead = at::sub(at::rand({61, 32}, at::kFloat), 0.5);
      const double along = at::sum(at::mul(hidden.grad(), dhidden)).item<double>() +
                           at::sum(at::mul(head.grad(), dhead)).item<double>();
      const auto loss_at = [&](double step) {
        return loss(at::add(hidden_NE, dhidden, step), at::add(head_VE, dhead, step))
            .item<double>();
      };
      const double difference = loss_at(kStep) - loss_at(-kStep);
      CHECK(difference / (2 * kStep) == Approx(along).epsilon(5e-3).margin(5e-3));
    }
  }
}

}  // namespace rollcall
