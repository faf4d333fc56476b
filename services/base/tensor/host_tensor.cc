#include "services/base/tensor/host_tensor.h"

#include <array>
#include <limits>

namespace rollcall {
namespace {

struct DTypeInfo {
  std::string_view name;
  size_t size;
};
// Indexed by DType.
constexpr std::array<DTypeInfo, 7> kDTypes = {{
    {"F32", 4},
    {"BF16", 2},
    {"F16", 2},
    {"I64", 8},
    {"I32", 4},
    {"U8", 1},
    {"BOOL", 1},
}};

}  // namespace

size_t DTypeSize(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].size; }

std::string_view DTypeName(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }

StatusOr<DType> ParseDType(std::string_view name) {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (kDTypes[i].name == name) return static_cast<DType>(i);
  }
  std::string message = "unknown dtype '" + std::string(name) + "'; known:";
  for (const DTypeInfo& info : kDTypes) message += " " + std::string(info.name);
  return InvalidArgument(message);
}

StatusOr<int64_t> NumElements(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (int64_t dim : shape) {
    if (dim < 0) return InvalidArgument("negative dimension " + std::to_string(dim));
    if (dim != 0 && product > std::numeric_limits<int64_t>::max() / dim) {
      return InvalidArgument("shape has more than 2^63 elements");
    }
    product *= dim;
  }
  return product;
}

}  // namespace rollcall
