// Beam search, as transformers' generate has it: the same candidates, scores, length penalty and
// ends, so that the same model gives the same sequences.
// Source: the search of generate(num_beams=...) in transformers 5; Meister et al. 2020, arXiv
// 2010.02650, on the ends of a search.
//
// The driver computes a row of logits for each live beam, calls Step, lets beam i go on as a copy
// of beam live()[i].parent with the token appended, and so on until is_done():
//
//   BeamSearch search(options, vocab_size);
//   while (!search.is_done()) { rows of logits for search.live(); search.Step(rows); }
//   search.TakeBest()
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

struct BeamOptions {
  int32_t num_beams = 1;        // [1, 64]
  double length_penalty = 1.0;  // scores are divided by length to the power of it; [-10, 10]
  // When enough beams ended:
  //   kHeuristic  stop when the best live beam, ended now, would not be better than the worst one
  //   kAtOnce     stop as soon as num_beams have ended
  //   kNever      stop when no live beam can become better, however long it grows
  enum class EarlyStopping { kHeuristic, kAtOnce, kNever };
  EarlyStopping early_stopping = EarlyStopping::kHeuristic;
  int32_t max_new_tokens = 1;
  std::vector<int32_t> stop_token_ids;
};

Status CheckBeamOptions(const BeamOptions& options);

// One search. Not thread-safe.
class BeamSearch {
 public:
  struct Beam {
    int32_t parent = 0;  // the live beam before that it goes on from
    std::vector<int32_t> tokens;
    double score = 0;  // sum of log-probabilities
  };
  struct Finished {
    std::vector<int32_t> tokens;
    double score = 0;  // with the length penalty
  };

  // The options passed CheckBeamOptions.
  BeamSearch(BeamOptions options, int64_t vocab_size);

  // The first step has one row, that of the prompt; later ones have one per live beam, in order.
  // kDataLoss: a logit is not a finite number. O(beams * vocabulary).
  Status Step(std::span<const std::span<const float>> logits);

  // num_beams beams after a step; before the first one a single empty one.
  const std::vector<Beam>& live() const { return live_; }
  bool is_done() const { return is_done_; }
  // The best sequences, best first, at most num_beams.
  std::vector<Finished> TakeBest() { return std::move(finished_); }

 private:
  struct Candidate {
    int32_t beam = 0;
    int32_t token = 0;
    double score = 0;
  };

  bool Ends(const Candidate& candidate) const;
  void KeepFinished(std::span<const Candidate> best);
  bool CanImprove() const;

  const BeamOptions options_;
  const int64_t vocab_size_;
  std::vector<Beam> live_;
  std::vector<Finished> finished_;  // best first
  int32_t num_steps_ = 0;
  bool is_done_ = false;
};

}  // namespace rollcall
