#include "trainer/distributed/group.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "services/model/parallel/communicator.h"

namespace rollcall {

LearnerGroup::LearnerGroup(std::unique_ptr<Communicator> communicator)
    : communicator_(std::move(communicator)) {}
LearnerGroup::~LearnerGroup() = default;
LearnerGroup::LearnerGroup(LearnerGroup&&) noexcept = default;
LearnerGroup& LearnerGroup::operator=(LearnerGroup&&) noexcept = default;

int LearnerGroup::rank() const { return communicator_->rank(); }
int LearnerGroup::world_size() const { return communicator_->world_size(); }

Status LearnerGroup::Sum(std::span<double> values) {
  if (world_size() == 1 || values.empty()) return OkStatus();
  return GuardExceptions("sum over ranks", [&]() -> Status {
    at::Tensor buffer = at::empty({static_cast<int64_t>(values.size())}, at::kDouble);
    std::memcpy(buffer.mutable_data_ptr<double>(), values.data(), values.size_bytes());
    ROLLCALL_RETURN_IF_ERROR(communicator_->AllReduceSum(buffer));
    std::memcpy(values.data(), buffer.const_data_ptr<double>(), values.size_bytes());
    return OkStatus();
  });
}

Status LearnerGroup::Max(std::span<double> values) {
  if (world_size() == 1 || values.empty()) return OkStatus();
  // Every rank fills a row of its own; the sum with zeros gathers the rows.
  return GuardExceptions("maximum over ranks", [&]() -> Status {
    const auto n = static_cast<int64_t>(values.size());
    at::Tensor rows = at::zeros({world_size() * n}, at::kDouble);
    std::memcpy(rows.mutable_data_ptr<double>() + rank() * n, values.data(), values.size_bytes());
    ROLLCALL_RETURN_IF_ERROR(communicator_->AllReduceSum(rows));
    const double* all = rows.const_data_ptr<double>();
    std::fill(values.begin(), values.end(), -std::numeric_limits<double>::infinity());
    for (int64_t i = 0; i < world_size() * n; ++i) {
      values[i % n] = std::max(values[i % n], all[i]);
    }
    return OkStatus();
  });
}

Status LearnerGroup::SumGradient(at::Tensor& gradient) {
  if (world_size() == 1) return OkStatus();
  return communicator_->AllReduceSum(gradient);
}

Status LearnerGroup::Barrier() { return communicator_->Barrier(); }

}  // namespace rollcall
