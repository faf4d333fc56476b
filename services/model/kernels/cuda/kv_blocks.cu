// Writing into and copying of KV blocks; see device_args.h.
#include "services/model/kernels/cuda/launchers.h"

namespace rollcall::ROLLCALL_DEVICE_NAMESPACE {
namespace {

constexpr int kThreads = 256;

// One thread an element of k and the same one of v.
template <typename T>
ROLLCALL_KERNEL(kThreads)
KvAppendKernel(DeviceKvAppendArgs args) {
  const DeviceKvLayer& kv = args.kv;
  const int64_t width = kv.num_kv_heads * kv.head_dim;
  const int64_t i = BlockX() * kThreads + ThreadIndex();
  if (i >= args.num_rows * width) return;
  const int64_t slot = args.slots[i / width];
  if (slot < 0) return;
  const int64_t head = i % width / kv.head_dim;
  const int64_t at = slot / kv.block_size * kv.block_stride +
                     (head * kv.block_size + slot % kv.block_size) * kv.head_dim + i % kv.head_dim;
  T* pool = static_cast<T*>(kv.pool);
  pool[at + kv.k_offset] = RoundTo<T>(args.k[i]);
  pool[at + kv.v_offset] = RoundTo<T>(args.v[i]);
}

// One row of blocks of the grid a pair, one thread sixteen bytes.
ROLLCALL_KERNEL(kThreads) CopyBlocksKernel(DeviceCopyBlocksArgs args) {
  const int64_t vectors = args.block_bytes / static_cast<int64_t>(sizeof(Vector<float>));
  const int64_t i = BlockX() * kThreads + ThreadIndex();
  if (i >= vectors) return;
  const int64_t from = args.pairs[2 * BlockY()];
  const int64_t to = args.pairs[2 * BlockY() + 1];
  auto* pool = static_cast<Vector<float>*>(args.pool);
  pool[to * vectors + i] = pool[from * vectors + i];
}

}  // namespace

int KvAppend(const DeviceKvAppendArgs& args, DeviceStream stream) {
  const int64_t size = args.num_rows * args.kv.num_kv_heads * args.kv.head_dim;
  const Grid grid{.x = CeilDiv(size, kThreads), .threads = kThreads};
  return args.kv.dtype == DeviceDType::kBf16 ? Launch(KvAppendKernel<Bf16>, grid, stream, args)
                                             : Launch(KvAppendKernel<float>, grid, stream, args);
}

int CopyBlocks(const DeviceCopyBlocksArgs& args, DeviceStream stream) {
  constexpr int64_t kMaxPairs = 65535;  // of one grid
  DeviceCopyBlocksArgs part = args;
  for (int64_t first = 0; first < args.num_pairs; first += kMaxPairs) {
    part.pairs = args.pairs + 2 * first;
    part.num_pairs = args.num_pairs - first < kMaxPairs ? args.num_pairs - first : kMaxPairs;
    const int64_t vectors = args.block_bytes / static_cast<int64_t>(sizeof(Vector<float>));
    const int error = Launch(
        CopyBlocksKernel,
        {.x = CeilDiv(vectors, kThreads), .y = part.num_pairs, .threads = kThreads}, stream, part);
    if (error != 0) return error;
  }
  return 0;
}

}  // namespace rollcall::ROLLCALL_DEVICE_NAMESPACE
