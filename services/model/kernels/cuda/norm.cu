// The norms; see kernels/rms_norm.h and layer_norm.h. One block a row; how many threads depends on
// the width alone.
#include "services/model/kernels/cuda/launchers.h"

namespace rollcall::ROLLCALL_DEVICE_NAMESPACE {
namespace {

constexpr int kMaxThreads = 256;

Grid RowGrid(int64_t num_rows, int64_t width) {
  const int threads = width <= 256 ? kWarp : width <= 1024 ? 128 : kMaxThreads;
  return {.x = num_rows,
          .threads = threads,
          .shared_bytes = threads / kWarp * static_cast<int64_t>(sizeof(float))};
}

ROLLCALL_DEVICE float InverseRoot(float sum_of_squares, int64_t width, double eps) {
  const double mean = static_cast<double>(sum_of_squares) / static_cast<double>(width);
  return static_cast<float>(1.0 / sqrt(mean + eps));
}

ROLLCALL_KERNEL(kMaxThreads) RmsNormKernel(RmsNormArgs args) {
  auto* scratch = reinterpret_cast<float*>(SharedMemory());
  const float* x = args.x + BlockX() * args.width;
  float* y = args.y + BlockX() * args.width;
  float sum = 0;
  for (int64_t i = ThreadIndex(); i < args.width; i += NumThreads()) sum = Fma(x[i], x[i], sum);
  const float inverse = InverseRoot(BlockSum(sum, scratch), args.width, args.eps);
  for (int64_t i = ThreadIndex(); i < args.width; i += NumThreads()) {
    y[i] = x[i] * inverse * (args.w[i] + args.weight_offset);
  }
}

ROLLCALL_KERNEL(kMaxThreads) LayerNormKernel(LayerNormArgs args) {
  auto* scratch = reinterpret_cast<float*>(SharedMemory());
  const float* x = args.x + BlockX() * args.width;
  float* y = args.y + BlockX() * args.width;
  float sum = 0;
  for (int64_t i = ThreadIndex(); i < args.width; i += NumThreads()) sum += x[i];
  const float mean = BlockSum(sum, scratch) / static_cast<float>(args.width);
  float square = 0;
  for (int64_t i = ThreadIndex(); i < args.width; i += NumThreads()) {
    square = Fma(x[i] - mean, x[i] - mean, square);
  }
  const float inverse = InverseRoot(BlockSum(square, scratch), args.width, args.eps);
  for (int64_t i = ThreadIndex(); i < args.width; i += NumThreads()) {
    y[i] = Fma((x[i] - mean) * inverse, args.w[i], args.b[i]);
  }
}

}  // namespace

int RmsNorm(const RmsNormArgs& args, DeviceStream stream) {
  return Launch(RmsNormKernel, RowGrid(args.num_rows, args.width), stream, args);
}

int LayerNorm(const LayerNormArgs& args, DeviceStream stream) {
  return Launch(LayerNormKernel, RowGrid(args.num_rows, args.width), stream, args);
}

}  // namespace rollcall::ROLLCALL_DEVICE_NAMESPACE
