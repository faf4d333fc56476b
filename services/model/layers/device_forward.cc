#include "services/model/layers/device_forward.h"

#include <stdexcept>
#include <string>

#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

namespace rollcall::device_forward {
namespace {

const float* Data(const at::Tensor& tensor) { return tensor.const_data_ptr<float>(); }
float* Mutable(const at::Tensor& tensor) { return tensor.mutable_data_ptr<float>(); }
const int32_t* Ids(const at::Tensor& tensor) { return tensor.const_data_ptr<int32_t>(); }

at::Tensor RoundedToBf16(const Device& device, const at::Tensor& x) {
  const at::Tensor rounded = at::empty(x.sizes(), x.options().dtype(at::kBFloat16));
  Check(device,
        device.kernels->convert({.x = Data(x),
                                 .size = x.numel(),
                                 .y = static_cast<uint16_t*>(rounded.mutable_data_ptr())},
                                device.stream),
        "convert");
  return rounded;
}

// Sums are float32 here too.
at::Tensor LibraryLinear(const Device& device, const at::Tensor& x_NE, const at::Tensor& w_OE,
                         const at::Tensor& bias_O) {
  at::Tensor y_NO = DTypeOf(w_OE) == DeviceDType::kBf16
                        ? at::mm(RoundedToBf16(device, x_NE), w_OE.t(), at::kFloat)
                        : at::mm(x_NE, w_OE.t());
  if (bias_O.defined()) y_NO.add_(bias_O);
  return y_NO;
}

}  // namespace

DeviceDType DTypeOf(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kFloat) return DeviceDType::kF32;
  if (tensor.scalar_type() == at::kBFloat16) return DeviceDType::kBf16;
  throw std::logic_error("the device's kernels take float32 and bfloat16 only");
}

void Check(const Device& device, int error, const char* operation) {
  if (error == 0) return;
  throw std::runtime_error(std::string(device.kernels->name) + " kernel '" + operation +
                           "': " + device.kernels->error_text(error));
}

at::Tensor Empty(at::IntArrayRef shape, const at::Tensor& like) {
  return at::empty(shape, like.options().dtype(at::kFloat));
}

at::Tensor Embedding(const Device& device, const at::Tensor& table_VE, const at::Tensor& ids_N,
                     float scale) {
  const at::Tensor rows = Empty({ids_N.size(0), table_VE.size(1)}, table_VE);
  Check(device,
        device.kernels->embed({.table = table_VE.const_data_ptr(),
                               .table_dtype = DTypeOf(table_VE),
                               .ids = Ids(ids_N),
                               .num_rows = ids_N.size(0),
                               .width = table_VE.size(1),
                               .scale = scale,
                               .y = Mutable(rows)},
                              device.stream),
        "embed");
  return rows;
}

at::Tensor RmsNorm(const Device& device, const at::Tensor& x, const at::Tensor& weight,
                   const ops::NormOptions& options) {
  const at::Tensor y = Empty(x.sizes(), x);
  Check(device,
        device.kernels->rms_norm({.x = Data(x),
                                  .w = Data(weight),
                                  .num_rows = x.numel() / weight.numel(),
                                  .width = weight.numel(),
                                  .eps = options.eps,
                                  .weight_offset = options.weight_offset,
                                  .y = Mutable(y)},
                                 device.stream),
        "rms_norm");
  return y;
}

at::Tensor LayerNorm(const Device& device, const at::Tensor& x_NE, const at::Tensor& weight_E,
                     const at::Tensor& bias_E, double eps) {
  const at::Tensor y = Empty(x_NE.sizes(), x_NE);
  Check(device,
        device.kernels->layer_norm({.x = Data(x_NE),
                                    .w = Data(weight_E),
                                    .b = Data(bias_E),
                                    .num_rows = x_NE.size(0),
                                    .width = x_NE.size(1),
                                    .eps = eps,
                                    .y = Mutable(y)},
                                   device.stream),
        "layer_norm");
  return y;
}

at::Tensor Linear(const Device& device, const at::Tensor& x_NE, const at::Tensor& w_OE,
                  const at::Tensor& bias_O) {
  if (!x_NE.is_contiguous() || !w_OE.is_contiguous() || x_NE.size(1) != w_OE.size(1)) {
    throw std::logic_error("Linear: shapes of input and weight do not fit");
  }
  if (device.products == DeviceProducts::kLibrary) {
    return LibraryLinear(device, x_NE, w_OE, bias_O);
  }
  const at::Tensor y = Empty({x_NE.size(0), w_OE.size(0)}, x_NE);
  Check(device,
        device.kernels->linear({.x = Data(x_NE),
                                .num_rows = x_NE.size(0),
                                .depth = x_NE.size(1),
                                .num_outputs = w_OE.size(0),
                                .w = w_OE.const_data_ptr(),
                                .w_dtype = DTypeOf(w_OE),
                                .bias = bias_O.defined() ? Data(bias_O) : nullptr,
                                .y = Mutable(y)},
                               device.stream),
        "linear");
  return y;
}

void RotaryInPlace(const Device& device, const at::Tensor& x_NO, int64_t head_dim,
                   const at::Tensor& table_PR, const at::Tensor& positions_N, float direction) {
  Check(device,
        device.kernels->rotary({.x = Mutable(x_NO),
                                .num_rows = x_NO.size(0),
                                .num_heads = x_NO.size(1) / head_dim,
                                .head_dim = head_dim,
                                .rotary_dim = table_PR.size(1),
                                .table = Data(table_PR),
                                .positions = Ids(positions_N),
                                .direction = direction},
                               device.stream),
        "rotary");
}

at::Tensor Activate(const Device& device, Activation activation, const at::Tensor& gate,
                    const at::Tensor& up) {
  const at::Tensor y = Empty(gate.sizes(), gate);
  Check(device,
        device.kernels->activate({.activation = activation,
                                  .gate = Data(gate),
                                  .up = up.defined() ? Data(up) : nullptr,
                                  .size = gate.numel(),
                                  .y = Mutable(y)},
                                 device.stream),
        "activate");
  return y;
}

void SoftCapInPlace(const Device& device, const at::Tensor& x, double cap) {
  Check(device,
        device.kernels->soft_cap(
            {.x = Data(x), .size = x.numel(), .cap = static_cast<float>(cap), .y = Mutable(x)},
            device.stream),
        "soft_cap");
}

void AddInPlace(const Device& device, const at::Tensor& x, const at::Tensor& y) {
  Check(device,
        device.kernels->add({.a = Data(x), .b = Data(y), .size = x.numel(), .y = Mutable(x)},
                            device.stream),
        "add");
}

at::Tensor GatherRows(const Device& device, const at::Tensor& x_NE, const at::Tensor& rows_R) {
  const at::Tensor y = Empty({rows_R.size(0), x_NE.size(1)}, x_NE);
  Check(device,
        device.kernels->gather_rows({.x = Data(x_NE),
                                     .rows = Ids(rows_R),
                                     .num_rows = rows_R.size(0),
                                     .width = x_NE.size(1),
                                     .y = Mutable(y)},
                                    device.stream),
        "gather_rows");
  return y;
}

}  // namespace rollcall::device_forward
