// float64 vectors <-> CPU tensors.
#pragma once

#include <span>
#include <vector>

#include "services/model/tensor.h"

namespace rollcall {

at::Tensor ToTensor(std::span<const double> values);
at::Tensor ToTensor(std::span<const int64_t> values);
// Detached values of any floating tensor, in order.
std::vector<double> ToVector(const at::Tensor& tensor);

}  // namespace rollcall
