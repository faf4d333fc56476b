// The laws of many rows of logits at once, as the learner has them.
#pragma once

#include <cstdint>
#include <vector>

#include "services/model/law/kept_set.h"
#include "services/model/law/sampling_law.h"

namespace rollcall {

struct RowLaw {
  TokenContext context;            // read when the law has penalties
  const KeptSets* kept = nullptr;  // of the completion; null: the whole vocabulary
  int64_t number = 0;              // of the row's token in it
};

// What it points to outlives it, and the backward pass of what was computed with it.
struct RowLaws {
  SamplingLaw law;  // its penalties and bias; the temperature is given beside it
  std::vector<RowLaw> rows_N;
};

}  // namespace rollcall
