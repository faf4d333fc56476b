// Hugging Face's safetensors files: 8 bytes of header length, a JSON header, then the tensors'
// bytes. No torch; nothing in a file is trusted before all of its header was checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"

namespace rollcall {

// Offsets count from the first byte after the header.
struct SafetensorsHeader {
  uint64_t data_offset = 0;           // of the data area in the file
  std::vector<TensorLayout> tensors;  // by name
  std::map<std::string, std::string> metadata;
};

// Reads and checks the header at the start of a file of `file_size` bytes. `prefix` holds at least
// the header (or the whole file). kInvalidArgument names origin and tensor: header too long, not
// JSON, keys missing, unknown or doubled, unknown dtype, shape that does not match the bytes,
// overlaps, holes. kDataLoss with both byte counts when the file ends early.
StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::span<const std::byte> prefix,
                                                   uint64_t file_size, std::string_view origin);

// A file mapped read-only. Views are valid as long as the object. The mapping follows the file:
// copy what you need at once, and replace such files by rename, never in place.
class SafetensorsFile {
 public:
  static StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return path_; }
  const SafetensorsHeader& header() const { return header_; }
  // Null when there is no such tensor.
  const TensorLayout* Find(std::string_view name) const;
  std::span<const std::byte> Data(const TensorLayout& tensor) const;

 private:
  class Mapping;

  std::string path_;
  std::shared_ptr<const Mapping> mapping_;
  SafetensorsHeader header_;
};

// Gives back the memory of whole pages of a mapped view that was read; they are read from the file
// again when they are needed again.
void ReleasePages(std::span<const std::byte> view);

struct SafetensorsView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

// Writes atomically, in the order and with the padding of the reference writer (wider dtypes
// first, then by name). kInvalidArgument when a view's bytes do not fit its shape or a name is
// doubled.
Status WriteSafetensors(const std::string& path, std::vector<SafetensorsView> tensors,
                        const std::map<std::string, std::string>& metadata);

}  // namespace rollcall
