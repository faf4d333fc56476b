// Log-softmax statistics and the targets' log-probabilities; see kernels/log_softmax.h.
#include "services/model/kernels/cuda/launchers.h"

namespace rollcall::ROLLCALL_DEVICE_NAMESPACE {
namespace {

constexpr int kThreads = 256;

// One block a row.
ROLLCALL_KERNEL(kThreads) LogSoftmaxKernel(DeviceLogSoftmaxArgs args) {
  auto* scratch = reinterpret_cast<float*>(SharedMemory());
  const int64_t row = BlockX();
  const float* logits = args.logits + row * args.width;
  const float scale = args.inverse_temperatures == nullptr ? 1.0F : args.inverse_temperatures[row];
  float max = -INFINITY;
  for (int64_t v = ThreadIndex(); v < args.width; v += kThreads) max = fmaxf(max, logits[v]);
  const float max_scaled = BlockMax(max, scratch) * scale;
  float sum = 0;
  float weighted = 0;
  for (int64_t v = ThreadIndex(); v < args.width; v += kThreads) {
    // A masked logit is -inf and has weight 0; the bound keeps 0 * -inf out of the entropy.
    const float shifted = fmaxf(-1e30F, logits[v] * scale - max_scaled);
    const float e = expf(shifted);
    sum += e;
    weighted = Fma(e, shifted, weighted);
  }
  const float total = BlockSum(sum, scratch);
  const float total_weighted = BlockSum(weighted, scratch);
  if (ThreadIndex() != 0) return;
  const float log_sum = logf(total);
  if (args.targets != nullptr) {
    args.logprobs[row] = logits[args.targets[row]] * scale - max_scaled - log_sum;
  }
  if (args.stats != nullptr) {
    args.stats[3 * row] = max_scaled;
    args.stats[3 * row + 1] = log_sum;
    args.stats[3 * row + 2] = log_sum - total_weighted / total;
  }
}

}  // namespace

int LogSoftmax(const DeviceLogSoftmaxArgs& args, DeviceStream stream) {
  return Launch(LogSoftmaxKernel,
                {.x = args.num_rows,
                 .threads = kThreads,
                 .shared_bytes = kThreads / kWarp * static_cast<int64_t>(sizeof(float))},
                stream, args);
}

}  // namespace rollcall::ROLLCALL_DEVICE_NAMESPACE
