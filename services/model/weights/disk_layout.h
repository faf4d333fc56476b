// How the canonical parameters lie in the files of each architecture: under other names, as rows of
// a fused tensor, interleaved head by head, or transposed. No torch.
//
// A parameter is a matrix [O, I] (a vector is [O, 1]); a tensor on disk is a matrix of the same
// inputs whose outputs are those of one or more parameters. Every output of the tensor belongs to
// exactly one parameter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/model/config/model_config.h"
#include "services/model/weights/architecture.h"

namespace rollcall {

// Output r of the parameter is output first + (r / group) * stride + r % group of the tensor.
struct DiskPart {
  size_t parameter = 0;  // index into ListParameters
  int64_t first = 0;
  int64_t group = 0;   // outputs that lie side by side
  int64_t stride = 0;  // from one group to the next
};

struct DiskTensor {
  std::string name;
  // Other names under which files are found that hold the same; never written.
  std::vector<std::string> aliases;
  std::vector<int64_t> shape;
  bool is_transposed = false;  // [I, O] on disk
  std::vector<DiskPart> parts;

  // The bytes are those of one parameter, in its order.
  bool is_plain() const { return parts.size() == 1 && !is_transposed; }
};

// In the order of the first parameter that each holds.
std::vector<DiskTensor> ListDiskTensors(const ModelConfig& config, Head head,
                                        const std::vector<ParameterSpec>& parameters);

// From a tensor's bytes on disk (F32, BF16 or F16) to its parameters' places in the arena.
void ReadDiskTensor(const DiskTensor& tensor, const std::vector<TensorLayout>& layout, DType dtype,
                    std::span<const std::byte> data, std::span<float> arena);

// From the arena to the float32 values of a tensor on disk.
void FillDiskTensor(const DiskTensor& tensor, const std::vector<TensorLayout>& layout,
                    std::span<const float> arena, std::span<float> values);

// Copies values of any of the dtypes above into float32.
void ConvertToFloat(DType dtype, std::span<const std::byte> in, std::span<float> out);

// The other way round, to the nearest, ties to even. kInvalidArgument: a finite value that is too
// large for F16; BF16 takes every float32 but the last half step before infinity.
Status ConvertFromFloat(DType dtype, std::span<const float> in, std::span<std::byte> out);

}  // namespace rollcall
