// What a step needs from the ranks of its group: sums and maxima of a few numbers, and the sum of
// the flat gradient. Sums are added in rank order, so every rank gets the same bits.
#pragma once

#include <memory>
#include <span>

#include "services/base/status/status.h"
#include "services/model/tensor.h"

namespace rollcall {

class Communicator;

// Calls come from one thread and in the same order on all ranks. After a failure
// (kUnavailable, kDeadlineExceeded) the group is broken.
class LearnerGroup {
 public:
  explicit LearnerGroup(std::unique_ptr<Communicator> communicator);
  ~LearnerGroup();
  LearnerGroup(LearnerGroup&&) noexcept;
  LearnerGroup& operator=(LearnerGroup&&) noexcept;

  int rank() const;
  int world_size() const;
  // In place, over all ranks.
  Status Sum(std::span<double> values);
  Status Max(std::span<double> values);
  // `gradient` is the flat float32 gradient arena.
  Status SumGradient(at::Tensor& gradient);
  Status Barrier();

 private:
  std::unique_ptr<Communicator> communicator_;
};

}  // namespace rollcall
