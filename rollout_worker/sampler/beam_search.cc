#include "rollout_worker/sampler/beam_search.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "rollout_worker/sampler/truncation.h"
#include "services/model/kernels/cpu_kernels.h"

namespace rollcall {
namespace {

constexpr int32_t kMaxBeams = 64;

}  // namespace

Status CheckBeamOptions(const BeamOptions& options) {
  if (options.num_beams < 1 || options.num_beams > kMaxBeams) {
    return InvalidArgument("num_beams is " + std::to_string(options.num_beams) +
                           ", it must be in [1, " + std::to_string(kMaxBeams) + "]");
  }
  if (!(std::abs(options.length_penalty) <= 10)) {
    return InvalidArgument("length_penalty is " + std::to_string(options.length_penalty) +
                           ", it must be in [-10, 10]");
  }
  if (options.max_new_tokens < 1) {
    return InvalidArgument("max_new_tokens is " + std::to_string(options.max_new_tokens) +
                           ", it must be at least 1");
  }
  return OkStatus();
}

BeamSearch::BeamSearch(BeamOptions options, int64_t vocab_size)
    : options_(std::move(options)), vocab_size_(vocab_size), live_(1) {}

bool BeamSearch::Ends(const Candidate& candidate) const {
  const std::vector<int32_t>& stops = options_.stop_token_ids;
  return num_steps_ >= options_.max_new_tokens ||
         std::find(stops.begin(), stops.end(), candidate.token) != stops.end();
}

Status BeamSearch::Step(std::span<const std::span<const float>> logits) {
  ROLLCALL_CHECK(logits.size() == live_.size() && !is_done_, "one row per live beam");
  ++num_steps_;
  // Enough that num_beams are left when all that can end do.
  const auto num_beams = static_cast<size_t>(options_.num_beams);
  const size_t num_wanted = std::max<size_t>(2, 1 + options_.stop_token_ids.size()) * num_beams;
  const CpuKernels& kernels = BestCpuKernels();
  Truncation truncation;
  std::vector<float> block_masses(static_cast<size_t>((vocab_size_ + kMassBlock - 1) / kMassBlock));
  std::vector<Candidate> candidates;
  for (size_t b = 0; b < live_.size(); ++b) {
    const std::span<const float> row = logits[b];
    ROLLCALL_CHECK(static_cast<int64_t>(row.size()) == vocab_size_,
                   "a row of logits has one entry per token");
    const MassSums sums = kernels.mass_sums(row.data(), vocab_size_, 1.0F, block_masses.data());
    if (!sums.all_finite) return DataLoss("the model's logits are not finite numbers");
    const auto count = std::min<int64_t>(vocab_size_, static_cast<int64_t>(num_wanted));
    for (const int32_t token : truncation.First(row, sums.max_logit, count)) {
      float logprob = 0;
      kernels.log_softmax_write(row.data() + token, 1, 1.0F, sums.stats, &logprob);
      candidates.push_back(
          {static_cast<int32_t>(b), token, live_[b].score + static_cast<double>(logprob)});
    }
  }
  // Of equals the lower beam, then the lower token.
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  if (candidates.size() > num_wanted) candidates.resize(num_wanted);

  KeepFinished(std::span(candidates).first(std::min(num_beams, candidates.size())));
  std::vector<Beam> next;
  for (const Candidate& candidate : candidates) {
    if (next.size() == num_beams || Ends(candidate)) continue;
    Beam& beam = next.emplace_back();
    beam.parent = candidate.beam;
    beam.tokens = live_[static_cast<size_t>(candidate.beam)].tokens;
    beam.tokens.push_back(candidate.token);
    beam.score = candidate.score;
  }
  live_ = std::move(next);
  const bool is_full = finished_.size() == num_beams;
  is_done_ = live_.empty() || num_steps_ >= options_.max_new_tokens || !CanImprove() ||
             (is_full && options_.early_stopping == BeamOptions::EarlyStopping::kAtOnce);
  return OkStatus();
}

// Only those among the num_beams best may end: what is worse could still be overtaken.
void BeamSearch::KeepFinished(std::span<const Candidate> best) {
  for (const Candidate& candidate : best) {
    if (!Ends(candidate)) continue;
    Finished& finished = finished_.emplace_back();
    finished.tokens = live_[static_cast<size_t>(candidate.beam)].tokens;
    finished.tokens.push_back(candidate.token);
    finished.score = candidate.score / std::pow(num_steps_, options_.length_penalty);
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
  const int32_t length = counts_longest ? options_.max_new_tokens : num_steps_;
  const double best = live_.front().score / std::pow(length, options_.length_penalty);
  return best > finished_.back().score;
}

}  // namespace rollcall
