// A batch of sequences whose keys and values lie in a pool of blocks in random order, for the tests
// of device attention; and the same attention by the CPU's kernel.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "services/model/kernels/cpu_kernels.h"
#include "tests/unit/model/kernels/cuda/device_test.h"

namespace rollcall {

struct AttentionCase {
  int64_t num_heads = 4;
  int64_t num_kv_heads = 2;
  int64_t head_dim = 64;
  int64_t block_size = 16;
  DeviceDType dtype = DeviceDType::kF32;
  float scale = 0.125F;
  float softcap = 0;
  int64_t window = 0;
};

// One sequence: all its queries, keys and values; of them a call brings some queries.
struct AttentionSequence {
  int64_t num_tokens = 0;
  Floats q, k, v;
};

inline AttentionSequence RandomSequence(CounterRandom& random, const AttentionCase& shape,
                                        int64_t num_tokens) {
  return {num_tokens, RandomFloats(random, num_tokens * shape.num_heads * shape.head_dim),
          RandomFloats(random, num_tokens * shape.num_kv_heads * shape.head_dim),
          RandomFloats(random, num_tokens * shape.num_kv_heads * shape.head_dim)};
}

// Queries first .. first+count-1 of a sequence; count 0 is padding of the batch.
struct AttentionPart {
  const AttentionSequence* sequence = nullptr;
  int64_t first = 0;
  int64_t count = 0;
};

class PagedBatch {
 public:
  // A pool of two layers, the second of which is used, all of it not a number.
  PagedBatch(CounterRandom& random, const AttentionCase& shape, std::vector<AttentionPart> parts)
      : shape_(shape), parts_(std::move(parts)) {
    std::vector<int32_t> blocks;
    for (const AttentionPart& part : parts_) {
      const int64_t keys = part.first + part.count;
      table_stride_ = std::max(table_stride_, CeilBlocks(keys));
      for (int64_t i = 0; i < CeilBlocks(keys); ++i) {
        blocks.push_back(static_cast<int32_t>(blocks.size()));
      }
    }
    Shuffle(std::span<int32_t>(blocks), random);
    const int64_t plane = shape_.num_kv_heads * shape_.block_size * shape_.head_dim;
    const auto elements = static_cast<size_t>(blocks.size()) * static_cast<size_t>(4 * plane);
    if (shape_.dtype == DeviceDType::kF32) {
      floats_.assign(elements, NAN);
    } else {
      halves_.assign(elements, 0x7FFF);
    }
    layer_ = {.pool = shape_.dtype == DeviceDType::kF32 ? static_cast<void*>(floats_.data())
                                                        : static_cast<void*>(halves_.data()),
              .dtype = shape_.dtype,
              .block_stride = 4 * plane,
              .k_offset = 2 * plane,
              .v_offset = 3 * plane,
              .block_size = shape_.block_size,
              .num_kv_heads = shape_.num_kv_heads,
              .head_dim = shape_.head_dim};
    tables_.assign(parts_.size() * static_cast<size_t>(table_stride_), -1);
    starts_ = {0};
    size_t used = 0;
    for (size_t s = 0; s < parts_.size(); ++s) {
      const AttentionPart& part = parts_[s];
      const int64_t keys = part.count == 0 ? 0 : part.first + part.count;
      for (int64_t i = 0; i < CeilBlocks(keys); ++i) Table(s)[i] = blocks[used++];
      num_keys_.push_back(static_cast<int32_t>(keys));
      starts_.push_back(starts_.back() + static_cast<int32_t>(part.count));
      Append(s, keys);
    }
  }

  int32_t* Table(size_t s) { return tables_.data() + s * static_cast<size_t>(table_stride_); }

  // Rows of all parts, one after the other. `slack` is added to what the host says it knows.
  Floats Run(int64_t slack = 0) {
    const int64_t width = shape_.num_heads * shape_.head_dim;
    Floats q;
    int64_t max_queries = 0;
    int64_t max_keys = 0;
    for (const AttentionPart& part : parts_) {
      max_queries = std::max(max_queries, part.count);
      max_keys = std::max(max_keys, part.first + part.count);
      if (part.count == 0) continue;
      const float* from = part.sequence->q.data() + part.first * width;
      q.insert(q.end(), from, from + part.count * width);
    }
    Floats out(q.size(), NAN);
    Floats workspace(DeviceAttentionWorkspace(starts_.back(), shape_.num_heads, shape_.head_dim,
                                              max_keys + slack),
                     NAN);
    REQUIRE(kEmulatedKernels.attention({.kv = layer_,
                                        .q = q.data(),
                                        .num_heads = shape_.num_heads,
                                        .num_sequences = static_cast<int64_t>(parts_.size()),
                                        .query_starts = starts_.data(),
                                        .num_keys = num_keys_.data(),
                                        .block_tables = tables_.data(),
                                        .table_stride = table_stride_,
                                        .max_queries = max_queries + slack,
                                        .max_keys = max_keys + slack,
                                        .scale = shape_.scale,
                                        .softcap = shape_.softcap,
                                        .window = shape_.window,
                                        .out = out.data(),
                                        .workspace = workspace.data(),
                                        .num_rows = starts_.back()},
                                       nullptr) == 0);
    return out;
  }

 private:
  int64_t CeilBlocks(int64_t keys) const {
    return (keys + shape_.block_size - 1) / shape_.block_size;
  }

  void Append(size_t s, int64_t keys) {
    if (keys == 0) return;
    std::vector<int32_t> slots;
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t slot =
          Table(s)[j / shape_.block_size] * shape_.block_size + j % shape_.block_size;
      slots.push_back(static_cast<int32_t>(slot));
    }
    REQUIRE(kEmulatedKernels.kv_append({.kv = layer_,
                                        .k = parts_[s].sequence->k.data(),
                                        .v = parts_[s].sequence->v.data(),
                                        .slots = slots.data(),
                                        .num_rows = keys},
                                       nullptr) == 0);
  }

  const AttentionCase shape_;
  const std::vector<AttentionPart> parts_;
  Floats floats_;
  std::vector<uint16_t> halves_;
  DeviceKvLayer layer_;
  int64_t table_stride_ = 0;
  std::vector<int32_t> tables_;
  std::vector<int32_t> starts_;
  std::vector<int32_t> num_keys_;
};

// The part's queries by the CPU's kernel, keys and values rounded as the case says.
inline Floats OnCpu(const AttentionCase& shape, const AttentionPart& part) {
  const int64_t keys = part.first + part.count;
  const bool is_half = shape.dtype == DeviceDType::kBf16;
  const Floats k = is_half ? Rounded(part.sequence->k) : part.sequence->k;
  const Floats v = is_half ? Rounded(part.sequence->v) : part.sequence->v;
  const int64_t block_size = (keys + 15) / 16 * 16;
  const int64_t kv_width = shape.num_kv_heads * shape.head_dim;
  const int64_t width = shape.num_heads * shape.head_dim;
  Floats transposed(static_cast<size_t>(kv_width * block_size));
  const CpuKernels& kernels = BestCpuKernels();
  kernels.transpose(k.data(), kv_width, kv_width, keys, transposed.data(), block_size);
  const float* k_block = transposed.data();
  const float* v_block = v.data();
  Floats out(static_cast<size_t>(part.count * width), NAN);
  Floats scratch(static_cast<size_t>(AttentionScratch(keys)));
  kernels.attention({.q = part.sequence->q.data() + part.first * width,
                     .q_stride = width,
                     .num_queries = part.count,
                     .first_position = part.first,
                     .num_heads = shape.num_heads,
                     .num_kv_heads = shape.num_kv_heads,
                     .head_dim = shape.head_dim,
                     .block_size = block_size,
                     .k_blocks = &k_block,
                     .k_head_stride = shape.head_dim * block_size,
                     .v_blocks = &v_block,
                     .v_head_stride = shape.head_dim,
                     .v_stride = kv_width,
                     .scale = shape.scale,
                     .softcap = shape.softcap,
                     .window = shape.window,
                     .out = out.data(),
                     .out_stride = width,
                     .scratch = scratch.data()});
  return out;
}

}  // namespace rollcall
