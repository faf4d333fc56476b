#include "rollout_worker/sampler/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>

#include "services/model/kernels/cpu_kernels.h"

namespace rollcall {
namespace {

size_t NumBlocks(size_t width) { return (width + kMassBlock - 1) / kMassBlock; }

bool BelowMinimum(const SamplingLaw& law, const RowContext& context) {
  return static_cast<int64_t>(context.tokens.completion.size()) < law.min_new_tokens &&
         !context.stop_token_ids.empty();
}

}  // namespace

Sampler::Sampler(int64_t vocab_size) : vocab_size_(vocab_size), edits_(vocab_size) {}

Status Sampler::SetRow(std::span<const float> logits, const SamplingLaw& law,
                       const RowContext& context) {
  ROLLCALL_CHECK(static_cast<int64_t>(logits.size()) == vocab_size_,
                 "a row of logits has one entry per token");
  raw_ = logits;
  logits_ = logits;
  has_model_stats_ = false;
  kept_.clear();
  greedy_ = law.temperature == 0.0;
  inverse_temperature_ = greedy_ ? 1.0F : static_cast<float>(1.0 / law.temperature);
  if (law.edits_logits()) {
    edited_.assign(logits.begin(), logits.end());
    edits_.Apply(law, context.tokens, edited_);
    logits_ = edited_;
  }
  Sum();
  if (!sums_.all_finite) return DataLoss("the model's logits are not finite numbers");
  whole_ = sums_.stats;
  if (!law.allowed_token_ids.empty() || !law.banned_token_ids.empty() ||
      !context.allowed_bits.empty() || BelowMinimum(law, context)) {
    KeepUnmasked(law, context);
    if (places_.empty()) {
      return FailedPrecondition("the grammar, the allowed and the banned tokens leave no token");
    }
    if (places_.size() < logits.size()) Keep(places_);
  }
  if (greedy_) {
    // The first of those that are as large as the largest.
    places_.resize(logits_.size());
    BestCpuKernels().select_at_least(logits_.data(), static_cast<int64_t>(logits_.size()),
                                     sums_.max_logit, places_.data());
    greedy_token_ = kept_.empty() ? places_[0] : kept_[places_[0]];
    kept_.clear();
    return OkStatus();
  }
  if (law.truncates()) {
    const std::span<const int32_t> places =
        truncation_.Apply(logits_, {inverse_temperature_, sums_, total_mass_}, law);
    if (places.size() < logits_.size()) Keep(places);
  }
  return OkStatus();
}

void Sampler::KeepUnmasked(const SamplingLaw& law, const RowContext& context) {
  const std::span<const uint64_t> bits = context.allowed_bits;
  places_.clear();
  if (!law.allowed_token_ids.empty()) {
    for (const int32_t token : law.allowed_token_ids) {
      if (bits.empty() || (bits[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0) {
        places_.push_back(token);
      }
    }
    std::sort(places_.begin(), places_.end());
    places_.erase(std::unique(places_.begin(), places_.end()), places_.end());
  } else if (bits.empty()) {
    places_.resize(static_cast<size_t>(vocab_size_));
    std::iota(places_.begin(), places_.end(), 0);
  } else {
    for (size_t w = 0; w < bits.size(); ++w) {
      for (uint64_t word = bits[w]; word != 0; word &= word - 1) {
        places_.push_back(static_cast<int32_t>(64 * w) + std::countr_zero(word));
      }
    }
  }
  const auto remove = [this](std::span<const int32_t> tokens) {
    std::vector<int32_t> sorted(tokens.begin(), tokens.end());
    std::sort(sorted.begin(), sorted.end());
    std::erase_if(places_, [&](int32_t token) {
      return std::binary_search(sorted.begin(), sorted.end(), token);
    });
  };
  if (!law.banned_token_ids.empty()) remove(law.banned_token_ids);
  if (BelowMinimum(law, context)) remove(context.stop_token_ids);
}

void Sampler::Keep(std::span<const int32_t> places) {
  // Places ascend, so what is read lies at or behind what is written: both go in place.
  const bool was_whole = kept_.empty();
  if (was_whole) kept_.resize(places.size());
  if (was_whole) kept_logits_.resize(places.size());
  for (size_t i = 0; i < places.size(); ++i) {
    kept_[i] = was_whole ? places[i] : kept_[places[i]];
    kept_logits_[i] = logits_[places[i]];
  }
  kept_.resize(places.size());
  kept_logits_.resize(places.size());
  logits_ = kept_logits_;
  Sum();
}

void Sampler::Sum() {
  block_masses_.resize(NumBlocks(logits_.size()));
  sums_ = BestCpuKernels().mass_sums(logits_.data(), static_cast<int64_t>(logits_.size()),
                                     inverse_temperature_, block_masses_.data());
  total_mass_ = 0;
  for (const float mass : block_masses_) total_mass_ += static_cast<double>(mass);
}

SampledToken Sampler::Draw(double uniform) const {
  if (greedy_) return {greedy_token_, 0.0F};
  const CpuKernels& kernels = BestCpuKernels();
  // The block, then the logit. Rounding may leave a sum a little below the number; the last one
  // that can occur takes what is missing.
  double rest = uniform * total_mass_;
  size_t block = 0;
  size_t last_possible = 0;
  for (; block < block_masses_.size(); ++block) {
    if (block_masses_[block] > 0) last_possible = block;
    if (static_cast<double>(block_masses_[block]) > rest) break;
    rest -= static_cast<double>(block_masses_[block]);
  }
  const size_t begin = last_possible * kMassBlock;
  const size_t count = std::min<size_t>(kMassBlock, logits_.size() - begin);
  std::array<float, kMassBlock> masses{};
  kernels.masses(logits_.data() + begin, static_cast<int64_t>(count), inverse_temperature_,
                 sums_.stats.max, masses.data());
  size_t place = begin;
  for (size_t i = 0; i < count; ++i) {
    const auto mass = static_cast<double>(masses[i]);
    if (mass > 0) place = begin + i;
    if (mass > rest) break;
    rest -= mass;
  }
  float logprob = 0;
  kernels.log_softmax_write(logits_.data() + place, 1, inverse_temperature_, sums_.stats, &logprob);
  return {kept_.empty() ? static_cast<int32_t>(place) : kept_[place], logprob};
}

double Sampler::KeptMass() const {
  if (kept_.empty()) return 1.0;
  const double log_mass = static_cast<double>(sums_.stats.max) - static_cast<double>(whole_.max) +
                          static_cast<double>(sums_.stats.log_sum) -
                          static_cast<double>(whole_.log_sum);
  return std::min(1.0, std::exp(log_mass));
}

float Sampler::ModelLogprob(int32_t token) {
  const CpuKernels& kernels = BestCpuKernels();
  if (!has_model_stats_) {
    has_model_stats_ = true;
    // Nothing was changed: the row's own sums are the model's.
    const bool same = kept_.empty() && logits_.data() == raw_.data() &&
                      logits_.size() == raw_.size() && inverse_temperature_ == 1.0F;
    if (same) {
      model_ = sums_;
    } else {
      scratch_.resize(NumBlocks(raw_.size()));
      model_ = kernels.mass_sums(raw_.data(), vocab_size_, 1.0F, scratch_.data());
    }
  }
  float logprob = 0;
  kernels.log_softmax_write(raw_.data() + token, 1, 1.0F, model_.stats, &logprob);
  return logprob;
}

int32_t Sampler::Rank(int32_t token) {
  places_.resize(raw_.size());
  return static_cast<int32_t>(
      BestCpuKernels().select_at_least(raw_.data(), vocab_size_, raw_[token], places_.data()));
}

std::vector<TokenLogprob> Sampler::TopLogprobs(int32_t count) {
  std::vector<TokenLogprob> top;
  if (count <= 0) return top;
  ModelLogprob(0);  // the sums of the row
  for (const int32_t token :
       truncation_.First(raw_, model_.max_logit, std::min<int64_t>(count, vocab_size_))) {
    top.push_back({token, ModelLogprob(token)});
  }
  std::stable_sort(top.begin(), top.end(), [this](const TokenLogprob& a, const TokenLogprob& b) {
    return raw_[a.token] > raw_[b.token];
  });
  return top;
}

}  // namespace rollcall
