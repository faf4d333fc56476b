// In what a model is computed.
#pragma once

#include <cstdint>

namespace rollcall {

enum class Precision : uint8_t {
  kFloat32,
  // Matrix products of inputs rounded to bfloat16, summed in float32; keys and values are kept in
  // bfloat16. Parameters, norms, softmax, residuals and logits stay float32.
  kBFloat16,
};

// Of the weights of matrix products, where only a sampler computes.
enum class Quantization : uint8_t {
  kNone,
  kInt8,  // and inputs rounded row by row; see kernels/linear.h
};

}  // namespace rollcall
