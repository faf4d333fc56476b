// Attention over paged keys and values; the law is in device_attention.h. Sequences whose rows of a
// kv head fit into one block (decode steps) are spread over blocks split by split and folded by a
// second kernel; the others (prompts) have a block for each kMaxRows rows, which folds the splits
// itself, by the same operations.
#include "services/model/kernels/cuda/attention_tile.cuh"
#include "services/model/kernels/cuda/launchers.h"

namespace rollcall::ROLLCALL_DEVICE_NAMESPACE {
namespace {

constexpr int64_t kMaxHeadDim = 256;

enum class Spread { kSplits, kRows };

// False where the block has nothing to do: the sequence is the other kernel's, has no such rows
// (then num_rows is 0), or no keys.
template <Spread kSpread>
ROLLCALL_DEVICE bool FindRows(const DeviceAttentionArgs& args, AttentionRows* rows) {
  rows->sequence = BlockX() / args.kv.num_kv_heads;
  rows->kv_head = BlockX() % args.kv.num_kv_heads;
  rows->group = args.num_heads / args.kv.num_kv_heads;
  rows->first_query = args.query_starts[rows->sequence];
  const int64_t num_queries = args.query_starts[rows->sequence + 1] - rows->first_query;
  rows->first_position = args.num_keys[rows->sequence] - num_queries;
  const int64_t total = num_queries * rows->group;
  if ((total > kMaxRows) == (kSpread == Spread::kSplits)) return false;
  rows->first_row = kSpread == Spread::kSplits ? 0 : BlockY() * kMaxRows;
  if (rows->first_row >= total) return false;
  const int64_t left = total - rows->first_row;
  rows->num_rows = static_cast<int>(left < kMaxRows ? left : kMaxRows);
  return args.num_keys[rows->sequence] != 0;
}

// The softmax over all splits so far, of one row.
struct Folded {
  float max;
  float sum;

  // Takes in a split's maximum and sum. Of the weighted values so far `fade` remains, of the
  // split's `share`.
  ROLLCALL_DEVICE void Add(float split_max, float split_sum, float* fade, float* share) {
    const float new_max = fmaxf(max, split_max);
    *fade = Fade(max, new_max);
    *share = Fade(split_max, new_max);
    max = new_max;
    sum = Fma(sum, *fade, split_sum * *share);
  }
};
// Adding +0 makes every zero the same one, however many keys of weight zero a tile had.
ROLLCALL_DEVICE float Normalized(float weighted, float sum) {
  return weighted * (1.0F / sum) + 0.0F;
}

// Of one row in one split: maximum, sum, weighted values.
ROLLCALL_DEVICE float* Partial(const DeviceAttentionArgs& args, int64_t head, int64_t split) {
  const int64_t splits = CeilDiv(args.max_keys, kDeviceSplitKeys);
  return args.workspace + (head * splits + split) * (args.kv.head_dim + 2);
}

template <typename T, int kMaxDim>
ROLLCALL_KERNEL(kAttentionThreads)
SplitAttentionKernel(DeviceAttentionArgs args) {
  AttentionRows rows;
  if (!FindRows<Spread::kSplits>(args, &rows)) return;
  const int64_t split = BlockY();
  if (split * kDeviceSplitKeys >= rows.End()) return;
  const int head_dim = static_cast<int>(args.kv.head_dim);
  const AttentionShared<T> shared(head_dim);
  LoadQueries(args, rows, shared);
  ValueTile<kMaxDim> values;
  AttendSplit(args, rows, split, shared, &values);
  if (ThreadIndex() < rows.num_rows) {
    float* partial = Partial(args, rows.Head(ThreadIndex(), args.num_heads), split);
    partial[0] = shared.max[ThreadIndex()];
    partial[1] = shared.sum[ThreadIndex()];
  }
  const int d = 2 * ValueTile<kMaxDim>::Pair();
  if (d >= head_dim) return;
  ROLLCALL_UNROLL
  for (int r = 0; r < ValueTile<kMaxDim>::kRows; ++r) {
    const int row = ValueTile<kMaxDim>::Row(r);
    if (row >= rows.num_rows) continue;
    float* partial = Partial(args, rows.Head(row, args.num_heads), split) + 2 + d;
    partial[0] = values.acc[r][0];
    partial[1] = values.acc[r][1];
  }
}

// One block a row of the sequences that the split kernel took; a thread has elements of the head.
// Without keys the result is zero.
ROLLCALL_KERNEL(kAttentionThreads) FoldSplitsKernel(DeviceAttentionArgs args) {
  AttentionRows rows;
  const bool has_keys = FindRows<Spread::kSplits>(args, &rows);
  const int row = static_cast<int>(BlockY());
  if (row >= rows.num_rows) return;
  const int64_t head = rows.Head(row, args.num_heads);
  const int64_t num_keys = has_keys ? rows.End() : 0;
  for (int64_t d = ThreadIndex(); d < args.kv.head_dim; d += kAttentionThreads) {
    Folded folded{-INFINITY, 0.0F};
    float weighted = 0;
    for (int64_t split = 0; split * kDeviceSplitKeys < num_keys; ++split) {
      const float* partial = Partial(args, head, split);
      float fade = 0;
      float share = 0;
      folded.Add(partial[0], partial[1], &fade, &share);
      weighted = Fma(weighted, fade, partial[2 + d] * share);
    }
    args.out[head * args.kv.head_dim + d] = has_keys ? Normalized(weighted, folded.sum) : 0.0F;
  }
}

template <typename T, int kMaxDim>
ROLLCALL_KERNEL(kAttentionThreads)
RowAttentionKernel(DeviceAttentionArgs args) {
  AttentionRows rows;
  if (!FindRows<Spread::kRows>(args, &rows)) return;
  using Values = ValueTile<kMaxDim>;
  const int head_dim = static_cast<int>(args.kv.head_dim);
  const AttentionShared<T> shared(head_dim);
  LoadQueries(args, rows, shared);
  Values total;
  total.Clear();
  Folded folded[Values::kRows];
  ROLLCALL_UNROLL
  for (int r = 0; r < Values::kRows; ++r) folded[r] = {-INFINITY, 0.0F};
  for (int64_t split = rows.Begin(args.window) / kDeviceSplitKeys;
       split * kDeviceSplitKeys < rows.End(); ++split) {
    Values values;
    AttendSplit(args, rows, split, shared, &values);
    ROLLCALL_UNROLL
    for (int r = 0; r < Values::kRows; ++r) {
      const int row = Values::Row(r);
      if (row >= rows.num_rows) continue;
      float fade = 0;
      float share = 0;
      folded[r].Add(shared.max[row], shared.sum[row], &fade, &share);
      total.acc[r][0] = Fma(total.acc[r][0], fade, values.acc[r][0] * share);
      total.acc[r][1] = Fma(total.acc[r][1], fade, values.acc[r][1] * share);
    }
    Barrier();  // the next split sets maximum and sum anew
  }
  const int d = 2 * Values::Pair();
  if (d >= head_dim) return;
  ROLLCALL_UNROLL
  for (int r = 0; r < Values::kRows; ++r) {
    const int row = Values::Row(r);
    if (row >= rows.num_rows) continue;
    float* out = args.out + rows.Head(row, args.num_heads) * head_dim + d;
    out[0] = Normalized(total.acc[r][0], folded[r].sum);
    out[1] = Normalized(total.acc[r][1], folded[r].sum);
  }
}

template <typename T, int kMaxDim>
int LaunchAttention(const DeviceAttentionArgs& args, DeviceStream stream) {
  const int64_t group = args.num_heads / args.kv.num_kv_heads;
  const int64_t max_rows = args.max_queries * group;
  Grid grid{.x = args.num_sequences * args.kv.num_kv_heads,
            .threads = kAttentionThreads,
            .shared_bytes = AttentionSharedBytes<T>(args.kv.head_dim)};
  if (max_rows > kMaxRows) {
    grid.y = CeilDiv(max_rows, kMaxRows);
    const int error = Launch(RowAttentionKernel<T, kMaxDim>, grid, stream, args);
    if (error != 0) return error;
  }
  if (group > kMaxRows) return 0;  // even one query has too many rows for the other kernel
  grid.y = CeilDiv(args.max_keys, kDeviceSplitKeys);
  const int error = Launch(SplitAttentionKernel<T, kMaxDim>, grid, stream, args);
  if (error != 0) return error;
  grid.y = max_rows < kMaxRows ? max_rows : kMaxRows;
  grid.shared_bytes = 0;
  return Launch(FoldSplitsKernel, grid, stream, args);
}

template <typename T>
int LaunchForDim(const DeviceAttentionArgs& args, DeviceStream stream) {
  if (args.kv.head_dim <= 64) return LaunchAttention<T, 64>(args, stream);
  if (args.kv.head_dim <= 128) return LaunchAttention<T, 128>(args, stream);
  return LaunchAttention<T, 256>(args, stream);
}

}  // namespace

int Attention(const DeviceAttentionArgs& args, DeviceStream stream) {
  if (args.kv.head_dim % Vector<Bf16>::kSize != 0 || args.kv.head_dim > kMaxHeadDim ||
      args.num_heads % args.kv.num_kv_heads != 0 || args.workspace == nullptr) {
    return kInvalidValue;
  }
  return args.kv.dtype == DeviceDType::kBf16 ? LaunchForDim<Bf16>(args, stream)
                                             : LaunchForDim<float>(args, stream);
}

}  // namespace rollcall::ROLLCALL_DEVICE_NAMESPACE
