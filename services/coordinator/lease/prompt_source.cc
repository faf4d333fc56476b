#include "services/coordinator/lease/prompt_source.h"

#include <utility>

#include "services/base/status/status.h"
#include "services/common/data/pass_order.h"

namespace rollcall::coordinator {

PromptSource::PromptSource(std::vector<int64_t> row_ids, uint64_t seed, bool shuffle,
                           int64_t prompts_per_step)
    : row_ids_(std::move(row_ids)),
      seed_(seed),
      shuffle_(shuffle),
      prompts_per_step_(prompts_per_step) {
  ROLLCALL_CHECK(
      prompts_per_step_ >= 1 && prompts_per_step_ <= static_cast<int64_t>(row_ids_.size()),
      "admission checks that the rows fill an iteration");
}

std::vector<int64_t> PromptSource::Rows(int64_t iteration) {
  const auto num_rows = static_cast<int64_t>(row_ids_.size());
  const int64_t iterations_per_pass = (num_rows + prompts_per_step_ - 1) / prompts_per_step_;
  const int64_t pass = iteration / iterations_per_pass;
  if (pass != pass_) {
    order_ = PassOrder(seed_, pass, num_rows, shuffle_);
    pass_ = pass;
  }
  const int64_t start = iteration % iterations_per_pass * prompts_per_step_;
  std::vector<int64_t> rows;
  rows.reserve(static_cast<size_t>(prompts_per_step_));
  for (int64_t i = 0; i < prompts_per_step_; ++i) {
    const int64_t place = (start + i) % num_rows;
    rows.push_back(row_ids_[static_cast<size_t>(order_[static_cast<size_t>(place)])]);
  }
  return rows;
}

}  // namespace rollcall::coordinator
