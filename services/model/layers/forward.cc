#include "services/model/layers/forward.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/EmptyTensor.h>

#include "services/model/kernels/cpu_kernels.h"
#include "services/model/layers/device_forward.h"
#include "services/model/layers/law_row.h"

namespace rollcall::forward {
namespace {

const float* Data(const at::Tensor& tensor) { return tensor.const_data_ptr<float>(); }
float* Mutable(const at::Tensor& tensor) { return tensor.mutable_data_ptr<float>(); }
const int32_t* Ids(const at::Tensor& tensor) { return tensor.const_data_ptr<int32_t>(); }
// Pairs of bfloat16 or quads of int8.
const uint32_t* Lanes(const at::Tensor& tensor) {
  return reinterpret_cast<const uint32_t*>(tensor.const_data_ptr<int32_t>());
}
uint32_t* MutableLanes(const at::Tensor& tensor) {
  return reinterpret_cast<uint32_t*>(tensor.mutable_data_ptr<int32_t>());
}
at::Tensor EmptyLanes(at::IntArrayRef shape) {
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

namespace {

// An input in the format of the weights that it meets, once for all threads.
struct InputForm {
  at::ScalarType format = at::kFloat;
  at::Tensor lanes;   // pairs or quads
  at::Tensor scales;  // of quads
};

at::ScalarType FormatOf(std::span<const ProductOutput> outputs, const Compute& compute) {
  const at::ScalarType precise = compute.precision == Precision::kBFloat16 ? at::kInt : at::kFloat;
  const auto format_of = [&](const ProductOutput& output) {
    return output.packed.defined() ? output.packed.scalar_type() : precise;
  };
  const at::ScalarType format = format_of(outputs.front());
  for (const ProductOutput& output : outputs) {
    Require(format_of(output) == format, "Products: the weights are not packed alike");
  }
  Require(format == precise || format == at::kChar,
          "Products: the weights were packed for another precision");
  return format;
}

InputForm FormInput(const ProductInput& input, at::ScalarType format, const Compute& compute) {
  InputForm form{.format = format, .lanes = {}, .scales = {}};
  if (format == at::kInt) form.lanes = PairRows(input.x, input.num_rows, input.depth, compute);
  if (format == at::kChar) {
    const int64_t num_quads = NumInt8Quads(input.depth);
    form.lanes = EmptyLanes({input.num_rows, num_quads});
    form.scales = Empty({input.num_rows});
    compute.Split(input.num_rows, input.num_rows * input.depth, [&](int64_t begin, int64_t end) {
      BestCpuKernels().quantize_rows(input.x + begin * input.depth, end - begin, input.depth,
                                     MutableLanes(form.lanes) + begin * num_quads,
                                     Mutable(form.scales) + begin);
    });
  }
  return form;
}

// Outputs first .. end-1; `first` starts a panel.
void MultiplyColumns(const ProductInput& input, const InputForm& form, const ProductOutput& output,
                     int64_t first, int64_t end) {
  const CpuKernels& kernels = BestCpuKernels();
  const bool is_packed = output.packed.defined();
  const float* w = output.w + first * input.depth;
  const float* bias = output.bias == nullptr ? nullptr : output.bias + first;
  if (form.format == at::kChar) {
    kernels.linear_int8({.x = Lanes(form.lanes),
                         .x_scales = Data(form.scales),
                         .num_rows = input.num_rows,
                         .depth = input.depth,
                         .num_outputs = end - first,
                         .packed = static_cast<const Int8Quad*>(output.packed.const_data_ptr()) +
                                   Int8PackedSize(first, input.depth),
                         .bias = bias,
                         .y = output.y + first,
                         .y_stride = output.num_outputs});
  } else if (form.format == at::kInt) {
    kernels.linear_bf16(
        {.x = Lanes(form.lanes),
         .num_rows = input.num_rows,
         .depth = input.depth,
         .num_outputs = end - first,
         .w = w,
         .packed = is_packed ? Lanes(output.packed) + Bf16PackedSize(first, input.depth) : nullptr,
         .bias = bias,
         .y = output.y + first,
         .y_stride = output.num_outputs});
  } else {
    kernels.linear(
        {.x = input.x,
         .num_rows = input.num_rows,
         .depth = input.depth,
         .num_outputs = end - first,
         .w = w,
         .packed = is_packed ? Data(output.packed) + PackedSize(first, input.depth) : nullptr,
         .bias = bias,
         .y = output.y + first,
         .y_stride = output.num_outputs});
  }
}

}  // namespace

void Products(const ProductInput& input, std::span<const ProductOutput> outputs,
              const Compute& compute) {
  const InputForm form = FormInput(input, FormatOf(outputs, compute), compute);
  // Cut between strips of columns: those that a small batch reads side by side stay together.
  const auto strips_of = [](const ProductOutput& output) {
    return (output.num_outputs + kStripOutputs - 1) / kStripOutputs;
  };
  int64_t num_strips = 0;
  int64_t num_outputs = 0;
  for (const ProductOutput& output : outputs) {
    num_strips += strips_of(output);
    num_outputs += output.num_outputs;
  }
  const int64_t cost = input.num_rows * input.depth * num_outputs / kProductsPerElement;
  compute.Split(num_strips, cost, [&](int64_t begin, int64_t end) {
    for (const ProductOutput& output : outputs) {
      const int64_t count = strips_of(output);
      if (begin < count && end > 0) {
        MultiplyColumns(input, form, output, std::max<int64_t>(begin, 0) * kStripOutputs,
                        std::min(end * kStripOutputs, output.num_outputs));
      }
      begin -= count;
      end -= count;
    }
  });
}

at::Tensor Pack(const at::Tensor& w_OK, Precision precision, Quantization quantization) {
  const int64_t num_outputs = w_OK.size(0);
  const int64_t depth = w_OK.size(1);
  if (quantization == Quantization::kInt8) {
    Require(depth <= kInt8MaxDepth, "Pack: the matrix is too deep for int8");
    const int64_t size_bytes =
        Int8PackedSize(num_outputs, depth) * static_cast<int64_t>(sizeof(Int8Quad));
    at::Tensor packed(at::detail::empty_cpu({size_bytes}, at::kChar));
    BestCpuKernels().pack_linear_int8(Data(w_OK), num_outputs, depth,
                                      static_cast<Int8Quad*>(packed.mutable_data_ptr()));
    return packed;
  }
  if (precision == Precision::kBFloat16) {
    at::Tensor packed = EmptyLanes({Bf16PackedSize(num_outputs, depth)});
    BestCpuKernels().pack_linear_bf16(Data(w_OK), num_outputs, depth, MutableLanes(packed));
    return packed;
  }
  at::Tensor packed = Empty({PackedSize(num_outputs, depth)});
  BestCpuKernels().pack_linear(Data(w_OK), num_outputs, depth, Mutable(packed));
  return packed;
}

at::Tensor PairRows(const float* x, int64_t num_rows, int64_t width, const Compute& compute) {
  const int64_t num_pairs = NumBf16Pairs(width);
  at::Tensor pairs = EmptyLanes({num_rows, num_pairs});
  compute.Split(num_rows, num_rows * width, [&](int64_t begin, int64_t end) {
    BestCpuKernels().round_rows(x + begin * width, end - begin, width,
                                MutableLanes(pairs) + begin * num_pairs);
  });
  return pairs;
}

at::Tensor RoundToBFloat16(const at::Tensor& x) {
  at::Tensor y = Empty(x.sizes());
  BestCpuKernels().round_values(Data(x), x.numel(), Mutable(y));
  return y;
}

at::Tensor Embedding(const at::Tensor& table_VE, const at::Tensor& ids_N, float scale,
                     const Compute& compute) {
  if (compute.device != nullptr) {
    return device_forward::Embedding(*compute.device, table_VE, ids_N, scale);
  }
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
  if (compute.device != nullptr) {
    return device_forward::RmsNorm(*compute.device, x, weight, options);
  }
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
  if (compute.device != nullptr) {
    return device_forward::LayerNorm(*compute.device, x_NE, weight_E, bias_E, eps);
  }
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
  const ops::Projection projection{w_OE, bias_O, packed};
  return forward::Linears(x_NE, std::span(&projection, 1), compute).front();
}

std::vector<at::Tensor> Linears(const at::Tensor& x_NE,
                                std::span<const ops::Projection> projections,
                                const Compute& compute) {
  std::vector<at::Tensor> results;
  std::vector<ProductOutput> outputs;
  results.reserve(projections.size());
  outputs.reserve(projections.size());
  if (compute.device != nullptr) {
    for (const ops::Projection& p : projections) {
      results.push_back(device_forward::Linear(*compute.device, x_NE, p.w_OE, p.bias_O));
    }
    return results;
  }
  for (const ops::Projection& p : projections) {
    Require(x_NE.is_contiguous() && p.w_OE.is_contiguous() && x_NE.size(1) == p.w_OE.size(1),
            "Linear: shapes of input and weight do not fit");
    const at::Tensor& y = results.emplace_back(Empty({x_NE.size(0), p.w_OE.size(0)}));
    outputs.push_back({.num_outputs = p.w_OE.size(0),
                       .w = Data(p.w_OE),
                       .packed = p.packed,
                       .bias = p.bias_O.defined() ? Data(p.bias_O) : nullptr,
                       .y = Mutable(y)});
  }
  Products({.x = Data(x_NE), .num_rows = x_NE.size(0), .depth = x_NE.size(1)}, outputs, compute);
  return results;
}

void RotaryInPlace(const at::Tensor& x_NO, int64_t head_dim, const at::Tensor& table_PR,
                   const at::Tensor& positions_N, float direction, const Compute& compute) {
  if (compute.device != nullptr) {
    return device_forward::RotaryInPlace(*compute.device, x_NO, head_dim, table_PR, positions_N,
                                         direction);
  }
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
  if (compute.device != nullptr) {
    return device_forward::Activate(*compute.device, activation, gate, up);
  }
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
  if (compute.device != nullptr) {
    return device_forward::SoftCapInPlace(*compute.device, x, cap);
  }
  compute.Split(x.numel(), x.numel() * kExpCost, [&](int64_t begin, int64_t end) {
    BestCpuKernels().soft_cap({.x = Data(x) + begin,
                               .size = end - begin,
                               .cap = static_cast<float>(cap),
                               .y = Mutable(x) + begin});
  });
}

void AddInPlace(const at::Tensor& x, const at::Tensor& y, const Compute& compute) {
  if (compute.device != nullptr) {
    return device_forward::AddInPlace(*compute.device, x, y);
  }
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
    const ProductOutput output{
        .num_outputs = vocab_size, .w = Data(w_VE), .packed = packed, .y = Mutable(logits)};
    Products({.x = Data(hidden_NE) + n * width, .num_rows = rows, .depth = width},
             std::span(&output, 1), {.precision = options.precision});
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
