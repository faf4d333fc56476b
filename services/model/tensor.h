// The only door to torch: at::Tensor and nothing else. Sources add <ATen/ops/...> as they need.
#pragma once

#include <ATen/core/Tensor.h>  // IWYU pragma: export
