// Micro-batches: sequences one after the other, without padding, under a token budget.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/batch/types.h"

namespace rollcall {

// Sequences that must be in one micro-batch, because one loss term reads all of them: a single
// sequence, or the two sides of a pair. Indices into the rank's flat list of sequences.
using Unit = std::vector<int64_t>;

// Cuts the units into runs of at most `max_tokens` tokens, in order. A unit that is larger than the
// budget gets a micro-batch of its own: sequences are never cut. Pure.
//   num_tokens  tokens of each sequence of the flat list
std::vector<std::vector<Unit>> CutMicrobatches(std::span<const Unit> units,
                                               std::span<const int64_t> num_tokens,
                                               int64_t max_tokens);

// One micro-batch in the layout that the decoder reads. Letters: N tokens, S sequences,
// T trainable tokens, in sequence order.
struct PackedTokens {
  std::vector<int32_t> token_ids_N;
  std::vector<int32_t> positions_N;
  std::vector<int32_t> starts;            // S + 1
  std::vector<int32_t> targets_T;         // the trainable tokens themselves
  std::vector<int64_t> rows_T;            // hidden row that predicts each: the token before it
  std::vector<int64_t> token_starts;      // S + 1: tokens of sequence s within T
  std::vector<int64_t> sequence_indices;  // S: into the flat list
};

PackedTokens Pack(std::span<const TrainSequence* const> sequences,
                  std::span<const int64_t> sequence_indices);

}  // namespace rollcall
