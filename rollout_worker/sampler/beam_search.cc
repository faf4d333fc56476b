#include "rollout_worker/sampler/beam_search.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "services/model/kernels/cpu_kernels.h"

namespace rollcall {
Status CheckBeamOptions(const BeamOptions& options) {
  if (options.num_beams < 1 || options.num_beams > kMaxBeams) {
    return InvalidArgument("num_beams is " + std::to_string(options.num_beams) +
                           ", it must be in [1, " + std::to_string(kMaxBeams) + "]");
  }
  if (!(std::abs(options.length_penalty) <= 10)) {
    return InvalidArgument("length_penalty is " + std::to_string(options.length_penalty) +
                           ", it must be in [-10, 10]");
  }
  return OkStatus();
}

BeamSearch::BeamSearch(const BeamOptions& options, BeamLimits limits, int64_t vocab_size)
    : options_(options),
      limits_(std::move(limits)),
      vocab_size_(vocab_size),
      num_candidates_(std::max<size_t>(2, 1 + limits_.stop_token_ids.size()) *
                      static_cast<size_t>(options.num_beams)),
      live_(1),
      is_expanded_(1, false),
      block_masses_(static_cast<size_t>((vocab_size + kMassBlock - 1) / kMassBlock)) {}

bool BeamSearch::Ends(const Candidate& candidate) const {
  const std::vector<int32_t>& stops = limits_.stop_token_ids;
  return num_rounds_ >= limits_.max_new_tokens ||
         std::find(stops.begin(), stops.end(), candidate.token) != stops.end();
}

Status BeamSearch::Expand(size_t beam, std::span<const float> logits) {
  ROLLCALL_CHECK(!is_done_ && !is_expanded_[beam], "a live beam is expanded once in a round");
  ROLLCALL_CHECK(static_cast<int64_t>(logits.size()) == vocab_size_,
                 "a row of logits has one entry per token");
  const CpuKernels& kernels = BestCpuKernels();
  const MassSums sums = kernels.mass_sums(logits.data(), vocab_size_, 1.0F, block_masses_.data());
  if (!sums.all_finite) return DataLoss("the model's logits are not finite numbers");
  const auto count = std::min<int64_t>(vocab_size_, static_cast<int64_t>(num_candidates_));
  for (const int32_t token : truncation_.First(logits, sums.max_logit, count)) {
    float logprob = 0;
    kernels.log_softmax_write(logits.data() + token, 1, 1.0F, sums.stats, &logprob);
    candidates_.push_back({static_cast<int32_t>(beam), token, logprob,
                           live_[beam].score + static_cast<double>(logprob)});
  }
  Prune();
  is_expanded_[beam] = true;
  ++num_expanded_;
  return OkStatus();
}

void BeamSearch::Prune() {
  // Of equals the lower beam, then the lower token: a total order, whatever order they came in.
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    return std::pair(a.beam, a.token) < std::pair(b.beam, b.token);
  });
  if (candidates_.size() > num_candidates_) candidates_.resize(num_candidates_);
}

void BeamSearch::Advance() {
  ROLLCALL_CHECK(is_round_complete() && !is_done_, "every live beam is expanded");
  ++num_rounds_;
  const auto num_beams = static_cast<size_t>(options_.num_beams);
  KeepFinished(std::span(candidates_).first(std::min(num_beams, candidates_.size())));
  std::vector<Beam> next;
  for (const Candidate& candidate : candidates_) {
    if (next.size() == num_beams || Ends(candidate)) continue;
    Beam& beam = next.emplace_back(live_[static_cast<size_t>(candidate.beam)]);
    beam.parent = candidate.beam;
    beam.tokens.push_back(candidate.token);
    beam.logprobs.push_back(candidate.logprob);
    beam.score = candidate.score;
  }
  live_ = std::move(next);
  candidates_.clear();
  is_expanded_.assign(live_.size(), false);
  num_expanded_ = 0;
  const bool is_full = finished_.size() == num_beams;
  is_done_ = live_.empty() || num_rounds_ >= limits_.max_new_tokens || !CanImprove() ||
             (is_full && options_.early_stopping == BeamOptions::EarlyStopping::kAtOnce);
}

// Only those among the num_beams best may end: what is worse could still be overtaken.
void BeamSearch::KeepFinished(std::span<const Candidate> best) {
  for (const Candidate& candidate : best) {
    if (!Ends(candidate)) continue;
    Finished& finished = finished_.emplace_back();
    const Beam& beam = live_[static_cast<size_t>(candidate.beam)];
    finished.tokens = beam.tokens;
    finished.tokens.push_back(candidate.token);
    finished.logprobs = beam.logprobs;
    finished.logprobs.push_back(candidate.logprob);
    finished.score = candidate.score / std::pow(num_rounds_, options_.length_penalty);
  }
  std::stable_sort(finished_.begin(), finished_.end(),
                   [](const Finished& a, const Finished& b) { return a.score > b.score; });
  const auto num_beams = static_cast<size_t>(options_.num_beams);
  if (finished_.size() > num_beams) finished_.resize(num_beams);
}

bool BeamSearch::CanImprove() const {
  if (live_.empty() || finished_.size() < static_cast<size_t>(options_.num_beams)) return true;
  const bool counts_longest =
      options_.early_stopping == BeamOptions::EarlyStopping::kNever && options_.length_penalty > 0;
  const int32_t length = counts_longest ? limits_.max_new_tokens : num_rounds_;
  const double best = live_.front().score / std::pow(length, options_.length_penalty);
  return best > finished_.back().score;
}

}  // namespace rollcall
