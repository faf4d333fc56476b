// Activations, caps, sums, conversions and gathers: one thread an element. See
// kernels/activation.h, soft_cap.h, rotary.h and device_args.h.
#include "services/model/kernels/cuda/launchers.h"

namespace rollcall::ROLLCALL_DEVICE_NAMESPACE {
namespace {

constexpr int kThreads = 256;

Grid ElementGrid(int64_t size) { return {.x = CeilDiv(size, kThreads), .threads = kThreads}; }

// Of this thread in the grid.
ROLLCALL_DEVICE int64_t Element() { return BlockX() * kThreads + ThreadIndex(); }

ROLLCALL_DEVICE float ActivationOf(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0F + expf(-x));
    case Activation::kGelu:
      return x * (0.5F * erfcf(x * -0.7071067811865476F));
    case Activation::kGeluTanh: {
      const float inner = 0.7978845608028654F * (x * Fma(x * x, 0.044715F, 1.0F));
      return 0.5F * x * (1.0F + tanhf(inner));
    }
    case Activation::kRelu:
      return x < 0.0F ? 0.0F : x;
  }
  return x;
}

ROLLCALL_KERNEL(kThreads) ActivateKernel(ActivationArgs args) {
  const int64_t i = Element();
  if (i >= args.size) return;
  const float value = ActivationOf(args.activation, args.gate[i]);
  args.y[i] = args.up == nullptr ? value : value * args.up[i];
}

ROLLCALL_KERNEL(kThreads) SoftCapKernel(SoftCapArgs args) {
  const int64_t i = Element();
  if (i < args.size) args.y[i] = args.cap * tanhf(args.x[i] / args.cap);
}

ROLLCALL_KERNEL(kThreads) AddKernel(DeviceAddArgs args) {
  const int64_t i = Element();
  if (i < args.size) args.y[i] = args.a[i] + args.b[i];
}

ROLLCALL_KERNEL(kThreads) ConvertKernel(DeviceConvertArgs args) {
  const int64_t i = Element();
  if (i < args.size) args.y[i] = RoundTo<Bf16>(args.x[i]).bits;
}

template <typename T>
ROLLCALL_KERNEL(kThreads)
EmbedKernel(DeviceEmbedArgs args) {
  const int64_t i = Element();
  if (i >= args.num_rows * args.width) return;
  const int64_t row = args.ids[i / args.width];
  const T* table = static_cast<const T*>(args.table);
  args.y[i] = ToFloat(table[row * args.width + i % args.width]) * args.scale;
}

ROLLCALL_KERNEL(kThreads) GatherKernel(DeviceGatherArgs args) {
  const int64_t i = Element();
  if (i >= args.num_rows * args.width) return;
  args.y[i] = args.x[args.rows[i / args.width] * args.width + i % args.width];
}

// One thread a pair of elements that turn together.
ROLLCALL_KERNEL(kThreads) RotaryKernel(RotaryArgs args) {
  const int64_t half = args.rotary_dim / 2;
  const int64_t i = Element();
  if (i >= args.num_rows * args.num_heads * half) return;
  const int64_t head = i / half;  // of all rows
  const int64_t d = i % half;
  const float* waves = args.table + args.positions[head / args.num_heads] * args.rotary_dim;
  float* low = args.x + head * args.head_dim + d;
  float* high = low + half;
  const float cosine = waves[d];
  const float sine = waves[half + d] * args.direction;
  const float a = *low;
  const float b = *high;
  *low = a * cosine - b * sine;
  *high = b * cosine + a * sine;
}

}  // namespace

int Activate(const ActivationArgs& args, DeviceStream stream) {
  return Launch(ActivateKernel, ElementGrid(args.size), stream, args);
}

int SoftCap(const SoftCapArgs& args, DeviceStream stream) {
  return Launch(SoftCapKernel, ElementGrid(args.size), stream, args);
}

int Add(const DeviceAddArgs& args, DeviceStream stream) {
  return Launch(AddKernel, ElementGrid(args.size), stream, args);
}

int Convert(const DeviceConvertArgs& args, DeviceStream stream) {
  return Launch(ConvertKernel, ElementGrid(args.size), stream, args);
}

int Embed(const DeviceEmbedArgs& args, DeviceStream stream) {
  const Grid grid = ElementGrid(args.num_rows * args.width);
  return args.table_dtype == DeviceDType::kBf16 ? Launch(EmbedKernel<Bf16>, grid, stream, args)
                                                : Launch(EmbedKernel<float>, grid, stream, args);
}

int GatherRows(const DeviceGatherArgs& args, DeviceStream stream) {
  return Launch(GatherKernel, ElementGrid(args.num_rows * args.width), stream, args);
}

int Rotary(const RotaryArgs& args, DeviceStream stream) {
  const int64_t pairs = args.num_rows * args.num_heads * (args.rotary_dim / 2);
  return Launch(RotaryKernel, ElementGrid(pairs), stream, args);
}

}  // namespace rollcall::ROLLCALL_DEVICE_NAMESPACE
