// Beam search, as transformers' generate has it: the same candidates, scores, length penalty and
// ends, so that the same model gives the same sequences.
// Source: the search of generate(num_beams=...) in transformers 5; Meister et al. 2020, arXiv
// 2010.02650, on the ends of a search.
//
// A round: the driver computes a row of logits for each live beam and hands them over in any order;
// then beam i goes on as a copy of beam live()[i].parent with its last token appended.
//
//   BeamSearch search(options, limits, vocab_size);
//   while (!search.is_done()) {
//     for each live beam b: search.Expand(b, its row);
//     search.Advance();
//   }
//   search.TakeBest()
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "rollout_worker/sampler/beam_options.h"
#include "rollout_worker/sampler/truncation.h"
#include "services/base/status/status.h"

namespace rollcall {

// kInvalidArgument names the setting that is out of range.
Status CheckBeamOptions(const BeamOptions& options);

// Where a beam ends.
struct BeamLimits {
  int32_t max_new_tokens = 1;           // at least 1
  std::vector<int32_t> stop_token_ids;  // belong to the beam that they end
};

// One search. Not thread-safe.
class BeamSearch {
 public:
  struct Beam {
    int32_t parent = 0;  // the live beam before that it goes on from
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;  // of the tokens, under the model's own softmax
    double score = 0;             // sum of log-probabilities
  };
  struct Finished {
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;
    double score = 0;  // with the length penalty
  };

  // The options passed CheckBeamOptions.
  BeamSearch(const BeamOptions& options, BeamLimits limits, int64_t vocab_size);

  // The row of logits after a live beam, once in a round; the row is not kept. The order of the
  // calls changes nothing. kDataLoss: a logit is not a finite number. O(vocabulary).
  Status Expand(size_t beam, std::span<const float> logits);
  bool is_expanded(size_t beam) const { return is_expanded_[beam]; }
  bool is_round_complete() const { return num_expanded_ == live_.size(); }
  // Ends a complete round.
  void Advance();

  // num_beams beams after a round, fewer where the vocabulary is that small; before the first round
  // a single empty one, the prompt.
  const std::vector<Beam>& live() const { return live_; }
  bool is_done() const { return is_done_; }
  // The best sequences, best first: num_beams of them if the vocabulary is at least that large.
  std::vector<Finished> TakeBest() { return std::move(finished_); }

 private:
  struct Candidate {
    int32_t beam = 0;
    int32_t token = 0;
    float logprob = 0;
    double score = 0;
  };

  // The best candidates so far, best first, and no more than can matter.
  void Prune();
  bool Ends(const Candidate& candidate) const;
  void KeepFinished(std::span<const Candidate> best);
  bool CanImprove() const;

  const BeamOptions options_;
  const BeamLimits limits_;
  const int64_t vocab_size_;
  // Candidates of a round: enough that num_beams are left when all that can end do.
  const size_t num_candidates_;
  std::vector<Beam> live_;
  std::vector<bool> is_expanded_;  // by live beam
  size_t num_expanded_ = 0;
  std::vector<Candidate> candidates_;
  std::vector<Finished> finished_;  // best first
  int32_t num_rounds_ = 0;
  bool is_done_ = false;
  Truncation truncation_;
  std::vector<float> block_masses_;
};

}  // namespace rollcall
