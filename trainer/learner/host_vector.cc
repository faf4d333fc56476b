#include "trainer/learner/host_vector.h"

#include <cstring>

#include <ATen/ops/empty.h>

namespace rollcall {

at::Tensor ToTensor(std::span<const double> values) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kDouble);
  std::memcpy(tensor.mutable_data_ptr<double>(), values.data(), values.size_bytes());
  return tensor;
}

at::Tensor ToTensor(std::span<const int64_t> values) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::memcpy(tensor.mutable_data_ptr<int64_t>(), values.data(), values.size_bytes());
  return tensor;
}

std::vector<double> ToVector(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().to(at::kCPU, at::kDouble).contiguous();
  const double* data = host.const_data_ptr<double>();
  return {data, data + host.numel()};
}

}  // namespace rollcall
