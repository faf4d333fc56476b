// How the sequences of a prompt group become preference pairs.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "trainer/batch/types.h"

namespace rollcall {

// Indices into the sequences of one group.
struct Pair {
  int64_t chosen = 0;
  int64_t rejected = 0;
};

struct PairSet {
  std::vector<Pair> pairs;
  int64_t ties = 0;        // equal scores: no pair, never resolved by index
  int64_t duplicates = 0;  // equal completions: no gradient in any margin loss
  int64_t empty = 0;       // a side without trainable tokens
  int64_t unpaired = 0;    // fewer than two usable sequences
};

using PairBuilderFn = PairSet (*)(const TrainGroup& group);

struct PairBuilder {
  std::string_view name;
  PairBuilderFn build;
};

std::span<const PairBuilder> PairBuilderParts();

// kInvalidArgument lists the names.
StatusOr<PairBuilder> FindPairBuilder(std::string_view name);

// Adds the pair, or counts why there is none.
void AddPair(const TrainGroup& group, Pair pair, PairSet* set);

}  // namespace rollcall
