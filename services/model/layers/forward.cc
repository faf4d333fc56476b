#include "services/model/layers/forward.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/EmptyTensor.h>

#include "services/model/kernels/cpu_kernels.h"
#include "services/model/layers/law_row.h"

namespace rollcall::forward {
namespace {

const float* Data(const at::Tensor& tensor) { return tensor.const_data_ptr<float>(); }
float* Mutable(const at::Tensor& tensor) { return tensor.mutable_data_ptr<float>(); }
const int32_t* Ids(const at::Tensor& tensor) { return tensor.const_data_ptr<int32_t>(); }
const Bf16Pair* Pairs(const at::Tensor& tensor) {
  return reinterpret_cast<const Bf16Pair*>(tensor.const_data_ptr<int32_t>());
}
Bf16Pair* MutablePairs(const at::Tensor& tensor) {
  return reinterpret_cast<Bf16Pair*>(tensor.mutable_data_ptr<int32_t>());
}
at::Tensor EmptyPairs(at::IntArrayRef shape) {
  return at::Tensor(at::detail::empty_cpu(shape, at::kInt));
}

// An exponential costs more.
constexpr int64_t kExpCost = 8;
// Outputs that one task of a product takes at least.
constexpr int64_t kStripOutputs = 4 * kPanelColumns;

void Require(bool condition, const char* what) {
  if (!condition) throw std::logic_error(what);
}

}  // namespace

at::Tensor Empty(at::IntArrayRef shape) {
  return at::Tensor(at::detail::empty_cpu(shape, at::kFloat));
}

void Product(const ProductArgs& args, const Compute& compute) {
  const bool is_bf16 = compute.precision == Precision::kBFloat16;
  Require(!args.packed.defined() || is_bf16 == (args.packed.scalar_type() == at::kInt),
          "Product: the weights were packed for another precision");
  at::Tensor pairs;
  if (is_bf16) pairs = PairRows(args.x, args.num_rows, args.depth, compute);
  const CpuKernels& kernels = BestCpuKernels();
  // Cut between strips of columns: those that a small batch reads side by side stay together.
  const int64_t num_strips = (args.num_outputs + kStripOutputs - 1) / kStripOutputs;
  const int64_t cost = args.num_rows * args.depth * args.num_outputs / kProductsPerElement;
  compute.Split(num_strips, cost, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kStripOutputs;
    const int64_t num_outputs = std::min(end * kStripOutputs, args.num_outputs) - first;
    const float* w = args.w + first * args.depth;
    const float* bias = args.bias == nullptr ? nullptr : args.bias + first;
    if (is_bf16) {
      const int64_t num_pairs = NumBf16Pairs(args.depth);
      kernels.linear_bf16(
          {.x = Pairs(pairs),
           .num_rows = args.num_rows,
           .depth = args.depth,
           .num_outputs = num_outputs,
           .w = w,
           .packed = args.packed.defined() ? Pairs(args.packed) + first * num_pairs : nullptr,
           .bias = bias,
           .y = args.y + first,
           .y_stride = args.num_outputs});
    } else {
      kernels.linear(
          {.x = args.x,
           .num_rows = args.num_rows,
           .depth = args.depth,
           .num_outputs = num_outputs,
           .w = w,
           .packed = args.packed.defined() ? Data(args.packed) + first * args.depth : nullptr,
           .bias = bias,
           .y = args.y + first,
           .y_stride = args.num_outputs});
    }
  });
}

at::Tensor Pack(const at::Tensor& w_OK, Precision precision) {
  const int64_t num_outputs = w_OK.size(0);
  const int64_t depth = w_OK.size(1);
  if (precision == Precision::kBFloat16) {
    at::Tensor packed = EmptyPairs({Bf16PackedSize(num_outputs, depth)});
    BestCpuKernels().pack_linear_bf16(Data(w_OK), num_outputs, depth, MutablePairs(packed));
    return packed;
  }
  at::Tensor packed = Empty({PackedSize(num_outputs, depth)});
  BestCpuKernels().pack_linear(Data(w_OK), num_outputs, depth, Mutable(packed));
  return packed;
}

at::Tensor PairRows(const float* x, int64_t num_rows, int64_t width, const Compute& compute) {
  const int64_t num_pairs = NumBf16Pairs(width);
  at::Tensor pairs = EmptyPairs({num_rows, num_pairs});
  compute.Split(num_rows, num_rows * width, [&](int64_t begin, int64_t end) {
    BestCpuKernels().round_rows(x + begin * width, end - begin, width,
                                MutablePairs(pairs) + begin * num_pairs);
  });
  return pairs;
}

at::Tensor RoundToBFloat16(const at::Tensor& x) {
  at::Tensor y = Empty(x.sizes());
  BestCpuKernels().round_values(Data(x), x.numel(), Mutable(y));
  return y;
}

at::Tensor Embedding(const at::Tensor& table_VE, const at::Tensor& ids_N, float scale) {
  const int64_t width = table_VE.size(1);
  const at::Tensor rows = Empty({ids_N.size(0), width});
  const float* table = Data(table_VE);
  float* out = Mutable(rows);
  const int32_t* ids = Ids(ids_N);
  for (int64_t n = 0; n < ids_N.size(0); ++n) {
    const float* row = table + ids[n] * width;
    if (scale == 1.0F) {
      std::memcpy(out + n * width, row, static_cast<size_t>(width) * sizeof(float));
    } else {
      for (int64_t e = 0; e < width; ++e) out[n * width + e] = row[e] * scale;
    }
  }
  return rows;
}

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, const ops::NormOptions& options,
                   const Compute& compute) {
  const at::Tensor y = Empty(x.sizes());
  const int64_t width = weight.numel();
  compute.Split(x.numel() / width, x.numel(), [&](int64_t begin, int64_t end) {
    BestCpuKernels().rms_norm({.x = Data(x) + begin * width,
                               .w = Data(weight),
                               .num_rows = end - begin,
                               .width = width,
                               .eps = options.eps,
                               .weight_offset = options.weight_offset,
                               .y = Mutable(y) + begin * width});
  });
  return y;
}

at::Tensor LayerNorm(const at::Tensor& x_NE, const at::Tensor& weight_E, const at::Tensor& bias_E,
                     double eps, const Compute& compute) {
  const at::Tensor y = Empty(x_NE.sizes());
  const int64_t width = x_NE.size(1);
  compute.Split(x_NE.size(0), x_NE.numel(), [&](int64_t begin, int64_t end) {
    BestCpuKernels().layer_norm({.x = Data(x_NE) + begin * width,
                                 .w = Data(weight_E),
                                 .b = Data(bias_E),
                                 .num_rows = end - begin,
                                 .width = width,
                                 .eps = eps,
                                 .y = Mutable(y) + begin * width});
  });
  return y;
}

at::Tensor Linear(const at::Tensor& x_NE, const at::Tensor& w_OE, const at::Tensor& bias_O,
                  const at::Tensor& packed, const Compute& compute) {
  Require(x_NE.is_contiguous() && w_OE.is_contiguous() && x_NE.size(1) == w_OE.size(1),
          "Linear: shapes of input and weight do not fit");
  const at::Tensor y = Empty({x_NE.size(0), w_OE.size(0)});
  Product({.x = Data(x_NE),
           .num_rows = x_NE.size(0),
           .depth = x_NE.size(1),
           .num_outputs = w_OE.size(0),
           .w = Data(w_OE),
           .packed = packed,
           .bias = bias_O.defined() ? Data(bias_O) : nullptr,
           .y = Mutable(y)},
          compute);
  return y;
}

void RotaryInPlace(const at::Tensor& x_NO, int64_t head_dim, const at::Tensor& table_PR,
                   const at::Tensor& positions_N, float direction, const Compute& compute) {
  const int64_t width = x_NO.size(1);
  compute.Split(x_NO.size(0), x_NO.numel(), [&](int64_t begin, int64_t end) {
    BestCpuKernels().rotary({.x = Mutable(x_NO) + begin * width,
                             .num_rows = end - begin,
                             .num_heads = width / head_dim,
                             .head_dim = head_dim,
                             .rotary_dim = table_PR.size(1),
                             .table = Data(table_PR),
                             .positions = Ids(positions_N) + begin,
                             .direction = direction});
  });
}

at::Tensor Activate(Activation activation, const at::Tensor& gate, const at::Tensor& up,
                    const Compute& compute) {
  const at::Tensor y = Empty(gate.sizes());
  compute.Split(gate.numel(), gate.numel() * kExpCost, [&](int64_t begin, int64_t end) {
    BestCpuKernels().activate({.activation = activation,
                               .gate = Data(gate) + begin,
                               .up = up.defined() ? Data(up) + begin : nullptr,
                               .size = end - begin,
                               .y = Mutable(y) + begin});
  });
  return y;
}

void SoftCapInPlace(const at::Tensor& x, double cap, const Compute& compute) {
  compute.Split(x.numel(), x.numel() * kExpCost, [&](int64_t begin, int64_t end) {
    BestCpuKernels().soft_cap({.x = Data(x) + begin,
                               .size = end - begin,
                               .cap = static_cast<float>(cap),
                               .y = Mutable(x) + begin});
  });
}

void AddInPlace(const at::Tensor& x, const at::Tensor& y, const Compute& compute) {
  compute.Split(x.numel(), x.numel(), [&](int64_t begin, int64_t end) {
    BestCpuKernels().add(Data(x) + begin, Data(y) + begin, end - begin, Mutable(x) + begin);
  });
}

at::Tensor PackedAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& starts, const ops::AttentionShape& shape,
                           const at::Tensor& stats) {
  const CpuKernels& kernels = BestCpuKernels();
  const int64_t num_sequences = starts.size(0) - 1;
  const int32_t* first = Ids(starts);
  Require(num_sequences >= 0 && first[0] == 0 && first[num_sequences] == q.size(0),
          "PackedAttention: the starts of the sequences do not cover the tokens");
  const int64_t q_stride = shape.num_heads * shape.head_dim;
  const int64_t kv_stride = shape.num_kv_heads * shape.head_dim;
  const at::Tensor out = Empty(q.sizes());

  int64_t longest = 0;
  for (int64_t s = 0; s < num_sequences; ++s) {
    Require(first[s + 1] >= first[s], "PackedAttention: the starts are not in order");
    longest = std::max<int64_t>(longest, first[s + 1] - first[s]);
  }
  // The keys of one sequence, transposed head by head, are the only block of that sequence.
  const int64_t longest_padded = (longest + 15) / 16 * 16;
  std::vector<float> keys(static_cast<size_t>(kv_stride * longest_padded));
  std::vector<float> scratch(static_cast<size_t>(AttentionScratch(longest)));
  for (int64_t s = 0; s < num_sequences; ++s) {
    const int64_t start = first[s];
    const int64_t num_tokens = first[s + 1] - start;
    if (num_tokens == 0) continue;
    const int64_t block_size = (num_tokens + 15) / 16 * 16;
    kernels.transpose(Data(k) + start * kv_stride, kv_stride, kv_stride, num_tokens, keys.data(),
                      block_size);
    const float* k_block = keys.data();
    const float* v_block = Data(v) + start * kv_stride;
    kernels.attention(
        {.q = Data(q) + start * q_stride,
         .q_stride = q_stride,
         .num_queries = num_tokens,
         .first_position = 0,
         .num_heads = shape.num_heads,
         .num_kv_heads = shape.num_kv_heads,
         .head_dim = shape.head_dim,
         .block_size = block_size,
         .k_blocks = &k_block,
         .k_head_stride = shape.head_dim * block_size,
         .v_blocks = &v_block,
         .v_head_stride = shape.head_dim,
         .v_stride = kv_stride,
         .scale = static_cast<float>(shape.scale),
         .softcap = static_cast<float>(shape.softcap),
         .window = shape.window,
         .out = Mutable(out) + start * q_stride,
         .out_stride = q_stride,
         .stats = stats.defined() ? Mutable(stats) + start * 2 * shape.num_heads : nullptr,
         .scratch = scratch.data()});
  }
  return out;
}

int64_t ChunkRows(int64_t vocab_size, int64_t chunk_bytes) {
  return std::max<int64_t>(1, chunk_bytes / (vocab_size * static_cast<int64_t>(sizeof(float))));
}

TokenLogprobs ComputeTokenLogprobs(const at::Tensor& hidden_NE, const at::Tensor& w_VE,
                                   const at::Tensor& packed, const at::Tensor& targets_N,
                                   const ops::TokenLogprobsOptions& options,
                                   const at::Tensor& stats) {
  const CpuKernels& kernels = BestCpuKernels();
  const int64_t num_rows = hidden_NE.size(0);
  const int64_t width = hidden_NE.size(1);
  const int64_t vocab_size = w_VE.size(0);
  const auto inverse_temperature = static_cast<float>(1.0 / options.temperature);
  const TokenLogprobs result{Empty({num_rows}), Empty({num_rows})};
  const int64_t chunk = std::min(num_rows, ChunkRows(vocab_size, options.chunk_bytes));
  const at::Tensor logits = Empty({chunk, vocab_size});
  LawRow law_row(options.laws.get(), vocab_size);
  for (int64_t n = 0; n < num_rows; n += chunk) {
    const int64_t rows = std::min(chunk, num_rows - n);
    Product({.x = Data(hidden_NE) + n * width,
             .num_rows = rows,
             .depth = width,
             .num_outputs = vocab_size,
             .w = Data(w_VE),
             .packed = packed,
             .y = Mutable(logits)},
            {.precision = options.precision});
    if (options.softcap > 0) SoftCapInPlace(logits, options.softcap);
    for (int64_t r = 0; r < rows; ++r) {
      float* row = Mutable(logits) + r * vocab_size;
      const LawRow::Kept kept =
          law_row.Apply(n + r, Ids(targets_N)[n + r], {row, static_cast<size_t>(vocab_size)});
      const LogSoftmaxStats row_stats =
          kernels.log_softmax_stats(kept.logits, kept.width, inverse_temperature);
      kernels.log_softmax_write(kept.logits + kept.target, 1, inverse_temperature, row_stats,
                                Mutable(result.logprobs_N) + n + r);
      Mutable(result.entropy_N)[n + r] = row_stats.entropy;
      if (stats.defined()) {
        float* out = Mutable(stats) + 3 * (n + r);
        out[0] = row_stats.max;
        out[1] = row_stats.log_sum;
        out[2] = row_stats.entropy;
      }
    }
  }
  return result;
}

}  // namespace rollcall::forward
