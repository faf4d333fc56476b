// Which rows make up which iteration: a pure function of the spec and the iteration's number.
#pragma once

#include <cstdint>
#include <vector>

namespace rollcall::coordinator {

// Rows are taken in the shuffled order of each pass, prompts_per_step at a time. A pass whose rows
// do not divide evenly fills its last iteration up from its own start, so that an iteration never
// holds a row twice and no row is left out. Not thread-safe (keeps the order of one pass).
class PromptSource {
 public:
  // `row_ids` are the usable rows in file order; prompts_per_step must be at most their number.
  PromptSource(std::vector<int64_t> row_ids, uint64_t seed, bool shuffle, int64_t prompts_per_step);

  // Row ids of an iteration, in order.
  std::vector<int64_t> Rows(int64_t iteration);

 private:
  const std::vector<int64_t> row_ids_;
  const uint64_t seed_;
  const bool shuffle_;
  const int64_t prompts_per_step_;
  int64_t pass_ = -1;
  std::vector<int64_t> order_;
};

}  // namespace rollcall::coordinator
