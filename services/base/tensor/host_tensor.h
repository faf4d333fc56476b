// A dense row-major tensor in host memory: the bridge between code that sees torch and code that
// sees protobuf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

enum class DType : uint8_t { kF32, kBF16, kF16, kI64, kI32, kU8, kBool };

// Bytes of one element.
size_t DTypeSize(DType dtype);
// safetensors spelling: "F32", "BF16", ...
std::string_view DTypeName(DType dtype);
// kInvalidArgument for a name that is not one of ours.
StatusOr<DType> ParseDType(std::string_view name);

// Product of the dimensions; kInvalidArgument when one is negative or the product overflows.
StatusOr<int64_t> NumElements(const std::vector<int64_t>& shape);

struct HostTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<std::byte> data;  // NumElements(shape) * DTypeSize(dtype) bytes, little-endian
};

// One tensor inside a flat snapshot of weights.
struct TensorLayout {
  std::string name;  // Hugging Face name
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
};

}  // namespace rollcall
