// Headers of safetensors files: what is accepted lies inside the file, without overlap.
#include <algorithm>
#include <span>

#include "services/model/weights/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using rollcall::fuzz::Require;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto header = rollcall::ParseSafetensorsHeader(bytes, size, "fuzz");
  if (!header.ok()) return 0;
  Require(header->data_offset <= size);
  const uint64_t area = size - header->data_offset;
  uint64_t total = 0;
  for (const rollcall::TensorLayout& tensor : header->tensors) {
    Require(tensor.offset_bytes <= area && tensor.size_bytes <= area - tensor.offset_bytes);
    total += tensor.size_bytes;
  }
  Require(total == area);
  return 0;
}
