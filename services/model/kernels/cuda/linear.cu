// Matrix products without tensor cores, in the order of k; see device_args.h. A block computes a
// tile of rows and outputs, a slice of the depth at a time through shared memory; a thread owns
// kRows x kOutputs accumulators of it. Tiles differ with the number of rows; the bits do not,
// because a number has one accumulator in all of them.
#include "services/model/kernels/cuda/launchers.h"

namespace rollcall::ROLLCALL_DEVICE_NAMESPACE {
namespace {

constexpr int kSlice = 16;  // of the depth

// A grid of R x O threads, each with rows x outputs numbers.
template <int R, int O, int rows, int outputs>
struct LinearTile {
  static constexpr int kThreadsR = R;
  static constexpr int kThreadsO = O;
  static constexpr int kRows = rows;        // kThreadsR apart
  static constexpr int kOutputs = outputs;  // kThreadsO apart
  static constexpr int kThreads = kThreadsR * kThreadsO;
  static constexpr int kTileRows = kThreadsR * kRows;
  static constexpr int kTileOutputs = kThreadsO * kOutputs;
  // One more float a line: the threads of a warp write different banks.
  static constexpr int kRowLine = kTileRows + 1;
  static constexpr int kOutputLine = kTileOutputs + 1;
  static constexpr int64_t kSharedBytes =
      static_cast<int64_t>(sizeof(float)) * kSlice * (kRowLine + kOutputLine);
};
using SmallTile = LinearTile<4, 32, 2, 1>;   // decode steps: 8 rows, 32 outputs
using LargeTile = LinearTile<16, 16, 4, 4>;  // 64 rows, 64 outputs

template <typename W, typename Tile>
ROLLCALL_KERNEL(Tile::kThreads)
LinearKernel(DeviceLinearArgs args) {
  auto* slice = reinterpret_cast<float*>(SharedMemory());
  float* x_slice = slice;                            // [kSlice][kRowLine]
  float* w_slice = slice + kSlice * Tile::kRowLine;  // [kSlice][kOutputLine]
  const W* w = static_cast<const W*>(args.w);
  const int64_t first_row = BlockY() * Tile::kTileRows;
  const int64_t first_output = BlockX() * Tile::kTileOutputs;
  const int thread_r = ThreadIndex() / Tile::kThreadsO;
  const int thread_o = ThreadIndex() % Tile::kThreadsO;
  float acc[Tile::kRows][Tile::kOutputs] = {};
  for (int64_t k0 = 0; k0 < args.depth; k0 += kSlice) {
    for (int i = ThreadIndex(); i < kSlice * Tile::kTileRows; i += Tile::kThreads) {
      const int64_t n = first_row + i / kSlice;
      const int64_t k = k0 + i % kSlice;
      const bool inside = n < args.num_rows && k < args.depth;
      x_slice[i % kSlice * Tile::kRowLine + i / kSlice] =
          inside ? ToFloat(RoundTo<W>(args.x[n * args.depth + k])) : 0.0F;
    }
    for (int i = ThreadIndex(); i < kSlice * Tile::kTileOutputs; i += Tile::kThreads) {
      const int64_t o = first_output + i / kSlice;
      const int64_t k = k0 + i % kSlice;
      const bool inside = o < args.num_outputs && k < args.depth;
      w_slice[i % kSlice * Tile::kOutputLine + i / kSlice] =
          inside ? ToFloat(w[o * args.depth + k]) : 0.0F;
    }
    Barrier();
    // Not beyond the depth: 0 * 0 would turn a sum of -0 into +0.
    const int depth = args.depth - k0 < kSlice ? static_cast<int>(args.depth - k0) : kSlice;
    for (int k = 0; k < depth; ++k) {
      ROLLCALL_UNROLL
      for (int r = 0; r < Tile::kRows; ++r) {
        const float x_k = x_slice[k * Tile::kRowLine + thread_r + r * Tile::kThreadsR];
        ROLLCALL_UNROLL
        for (int o = 0; o < Tile::kOutputs; ++o) {
          acc[r][o] =
              Fma(x_k, w_slice[k * Tile::kOutputLine + thread_o + o * Tile::kThreadsO], acc[r][o]);
        }
      }
    }
    Barrier();
  }
  ROLLCALL_UNROLL
  for (int r = 0; r < Tile::kRows; ++r) {
    ROLLCALL_UNROLL
    for (int o = 0; o < Tile::kOutputs; ++o) {
      const int64_t n = first_row + thread_r + r * Tile::kThreadsR;
      const int64_t output = first_output + thread_o + o * Tile::kThreadsO;
      if (n >= args.num_rows || output >= args.num_outputs) continue;
      const float sum = acc[r][o];
      args.y[n * args.num_outputs + output] = args.bias == nullptr ? sum : sum + args.bias[output];
    }
  }
}

template <typename W, typename Tile>
int LaunchTiles(const DeviceLinearArgs& args, DeviceStream stream) {
  return Launch(LinearKernel<W, Tile>,
                {.x = CeilDiv(args.num_outputs, Tile::kTileOutputs),
                 .y = CeilDiv(args.num_rows, Tile::kTileRows),
                 .threads = Tile::kThreads,
                 .shared_bytes = Tile::kSharedBytes},
                stream, args);
}

template <typename W>
int LaunchLinear(const DeviceLinearArgs& args, DeviceStream stream) {
  constexpr int64_t kSmallMaxRows = 16;
  return args.num_rows <= kSmallMaxRows ? LaunchTiles<W, SmallTile>(args, stream)
                                        : LaunchTiles<W, LargeTile>(args, stream);
}

}  // namespace

int Linear(const DeviceLinearArgs& args, DeviceStream stream) {
  return args.w_dtype == DeviceDType::kBf16 ? LaunchLinear<Bf16>(args, stream)
                                            : LaunchLinear<float>(args, stream);
}

}  // namespace rollcall::ROLLCALL_DEVICE_NAMESPACE
