// The functions of forward.h on a device. Activations are float32 there too; matrices and embedding
// tables are float32 or bfloat16. They throw when a launch is refused.
#pragma once

#include "services/model/layers/device.h"
#include "services/model/layers/ops.h"
#include "services/model/tensor.h"

namespace rollcall::device_forward {

// kF32 or kBf16 of a tensor; throws for another type.
DeviceDType DTypeOf(const at::Tensor& tensor);

// Throws with the operation's name when `error` is one.
void Check(const Device& device, int error, const char* operation);

// Uninitialised, where `like` lies.
at::Tensor Empty(at::IntArrayRef shape, const at::Tensor& like);

at::Tensor Embedding(const Device& device, const at::Tensor& table_VE, const at::Tensor& ids_N,
                     float scale);
at::Tensor RmsNorm(const Device& device, const at::Tensor& x, const at::Tensor& weight,
                   const ops::NormOptions& options);
at::Tensor LayerNorm(const Device& device, const at::Tensor& x_NE, const at::Tensor& weight_E,
                     const at::Tensor& bias_E, double eps);
at::Tensor Linear(const Device& device, const at::Tensor& x_NE, const at::Tensor& w_OE,
                  const at::Tensor& bias_O);
void RotaryInPlace(const Device& device, const at::Tensor& x_NO, int64_t head_dim,
                   const at::Tensor& table_PR, const at::Tensor& positions_N, float direction);
at::Tensor Activate(const Device& device, Activation activation, const at::Tensor& gate,
                    const at::Tensor& up);
void SoftCapInPlace(const Device& device, const at::Tensor& x, double cap);
void AddInPlace(const Device& device, const at::Tensor& x, const at::Tensor& y);
// Rows of x_NE by rows_R, int32.
at::Tensor GatherRows(const Device& device, const at::Tensor& x_NE, const at::Tensor& rows_R);

}  // namespace rollcall::device_forward
