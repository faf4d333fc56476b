#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "services/model/decoder/decoder.h"
#include "services/model/kernels/cpu_kernels.h"
#include "services/model/layers/forward.h"

namespace rollcall {
namespace {

class PagedAttention final : public AttentionContext {
 public:
  PagedAttention(const ModelConfig& config, KvPool pool, std::vector<PagedSequence> sequences,
                 const Compute& compute)
      : num_layers_(config.num_layers),
        num_heads_(config.num_heads),
        num_kv_heads_(config.num_kv_heads),
        head_dim_(config.head_dim),
        is_bf16_(config.precision == Precision::kBFloat16),
        row_lanes_(is_bf16_ ? NumBf16Pairs(head_dim_) : head_dim_),
        softcap_(static_cast<float>(config.attention_softcap)),
        pool_(pool),
        compute_(compute),
        sequences_(std::move(sequences)) {
    layers_.reserve(static_cast<size_t>(num_layers_));
    for (int64_t layer = 0; layer < num_layers_; ++layer) {
      layers_.push_back(AttentionOfLayer(config, layer));
    }
  }

  at::Tensor Attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v) override {
    if (!is_prepared_) Prepare(q.size(0));
    const at::Tensor out = forward::Empty(q.sizes());
    at::Tensor k_lanes = k;
    if (is_bf16_) {
      k_lanes = forward::PairRows(k.const_data_ptr<float>(), k.size(0) * num_kv_heads_, head_dim_,
                                  compute_);
    }
    const auto* keys = static_cast<const float*>(k_lanes.const_data_ptr());
    const auto num_sequences = static_cast<int64_t>(sequences_.size());
    compute_.Split(num_sequences, k.numel() * kAppendCost, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        if (ReusesSlots(sequences_[static_cast<size_t>(s)])) {
          ReplaceToken(static_cast<size_t>(s), layer, keys, v.const_data_ptr<float>());
          continue;
        }
        AppendKeys(static_cast<size_t>(s), layer, keys);
        AppendValues(static_cast<size_t>(s), layer, v.const_data_ptr<float>());
      }
    });
    compute_.Tasks(static_cast<int64_t>(tasks_.size()), [&](int64_t task, int thread) {
      AttendTask(tasks_[static_cast<size_t>(task)], layer, thread, q, out);
    });
    return out;
  }

 private:
  // Some queries of some kv heads of a sequence, of which the first is query 0 and kv head 0.
  struct Task {
    size_t sequence = 0;
    int64_t first_query = 0;
    int64_t num_queries = 0;
    int64_t first_head = 0;
    int64_t num_heads = 0;
  };

  // Once for all layers.
  void Prepare(int64_t num_rows) {
    Check(num_rows);
    is_prepared_ = true;
    first_rows_.reserve(sequences_.size());
    first_blocks_.reserve(sequences_.size());
    int64_t longest = 0;
    int64_t total_cost = 0;
    int64_t row = 0;
    for (const PagedSequence& sequence : sequences_) {
      first_rows_.push_back(row);
      first_blocks_.push_back(blocks_.size());
      row += sequence.num_new;
      if (sequence.num_new == 0) continue;
      const int64_t num_tokens = NumSlots(sequence);
      longest = std::max(longest, num_tokens);
      total_cost += Cost(sequence);
      const int64_t num_blocks = (num_tokens + pool_.block_size - 1) / pool_.block_size;
      for (int64_t i = 0; i < num_blocks; ++i) {
        const int64_t block = sequence.block_table[static_cast<size_t>(i)];
        blocks_.push_back(pool_.data + block * num_layers_ * 2 * PlaneSize());
      }
    }
    scratch_size_ = AttentionScratch(longest);
    scratch_.resize(static_cast<size_t>(scratch_size_ * compute_.num_threads()));
    for (size_t s = 0; s < sequences_.size(); ++s) AddTasks(s, total_cost);
  }

  // The scheduler's block tables.
  void Check(int64_t num_rows) const {
    int64_t total = 0;
    for (const PagedSequence& sequence : sequences_) {
      const int64_t num_tokens = NumSlots(sequence);
      if (sequence.heavy_hitters != nullptr && sequence.num_new > 1 &&
          sequence.heavy_hitters->is_compact() && num_tokens > sequence.heavy_hitters->budget()) {
        throw std::out_of_range("a sequence that forgets brings one token at a time, not " +
                                std::to_string(sequence.num_new));
      }
      if (sequence.num_cached < 0 || sequence.num_new < 0 ||
          static_cast<int64_t>(sequence.block_table.size()) * pool_.block_size < num_tokens) {
        throw std::out_of_range("a block table of " + std::to_string(sequence.block_table.size()) +
                                " blocks does not cover " + std::to_string(num_tokens) + " tokens");
      }
      for (int32_t block : sequence.block_table) {
        if (block < 0 || block >= pool_.num_blocks) {
          throw std::out_of_range("block " + std::to_string(block) + " is not one of the pool's " +
                                  std::to_string(pool_.num_blocks));
        }
      }
      total += sequence.num_new;
    }
    if (total != num_rows) {
      throw std::out_of_range("the sequences bring " + std::to_string(total) +
                              " tokens, the call has " + std::to_string(num_rows));
    }
  }

  // Slots that are in use when the sequence's new tokens are written.
  static int64_t NumSlots(const PagedSequence& sequence) {
    const int32_t num_tokens = sequence.num_cached + sequence.num_new;
    return sequence.heavy_hitters == nullptr ? num_tokens
                                             : sequence.heavy_hitters->NumSlots(num_tokens);
  }

  // Whether the new token goes where the last eviction left room: once that happens.
  static bool ReusesSlots(const PagedSequence& sequence) {
    return sequence.heavy_hitters != nullptr && sequence.heavy_hitters->is_compact() &&
           sequence.num_new == 1;
  }

  // Floats of one layer's keys, or values, in a block.
  int64_t PlaneSize() const { return num_kv_heads_ * pool_.block_size * row_lanes_; }

  // Products of a query and a key, or a weight and a value.
  int64_t Cost(const PagedSequence& sequence) const {
    const int64_t num_new = sequence.num_new;
    return num_new * (sequence.num_cached + (num_new + 1) / 2) * num_heads_ * head_dim_ * 2;
  }

  // Cuts a sequence that is much of the work between its kv heads, and then its queries.
  void AddTasks(size_t s, int64_t total_cost) {
    const PagedSequence& sequence = sequences_[s];
    if (sequence.num_new == 0) return;
    const int64_t num_wanted =
        compute_.NumParts(total_cost, total_cost / forward::kProductsPerElement);
    const int64_t num_parts = (Cost(sequence) * num_wanted + total_cost - 1) / total_cost;
    const int64_t head_parts = std::min(num_parts, num_kv_heads_);
    // What a key receives is added up in the order of the queries.
    const int64_t query_parts =
        sequence.heavy_hitters != nullptr
            ? 1
            : std::min((num_parts + head_parts - 1) / head_parts, int64_t{sequence.num_new});
    for (int64_t i = 0; i < query_parts; ++i) {
      const int64_t first_query = i * sequence.num_new / query_parts;
      for (int64_t j = 0; j < head_parts; ++j) {
        const int64_t first_head = j * num_kv_heads_ / head_parts;
        tasks_.push_back({.sequence = s,
                          .first_query = first_query,
                          .num_queries = (i + 1) * sequence.num_new / query_parts - first_query,
                          .first_head = first_head,
                          .num_heads = (j + 1) * num_kv_heads_ / head_parts - first_head});
      }
    }
  }

  // fn(planes of the block, its slot, offset of the first token, number of tokens) for every part
  // of the new tokens that lies in one block.
  template <typename Fn>
  void ForEachPart(size_t s, int64_t layer, const Fn& fn) const {
    const PagedSequence& sequence = sequences_[s];
    const int64_t end = int64_t{sequence.num_cached} + sequence.num_new;
    for (int64_t position = sequence.num_cached; position < end;) {
      const int64_t slot = position % pool_.block_size;
      const int64_t count = std::min(pool_.block_size - slot, end - position);
      const size_t block = first_blocks_[s] + static_cast<size_t>(position / pool_.block_size);
      fn(blocks_[block] + layer * 2 * PlaneSize(), slot, position - sequence.num_cached, count);
      position += count;
    }
  }

  void AppendKeys(size_t s, int64_t layer, const float* k) const {
    // All heads are one matrix of rows in the block, as they are columns of k.
    const int64_t width = num_kv_heads_ * row_lanes_;
    k += first_rows_[s] * width;
    ForEachPart(s, layer, [&](float* keys, int64_t slot, int64_t first, int64_t count) {
      BestCpuKernels().transpose(k + first * width, width, width, count, keys + slot,
                                 pool_.block_size);
    });
  }

  void AppendValues(size_t s, int64_t layer, const float* v) const {
    const int64_t width = num_kv_heads_ * head_dim_;
    v += first_rows_[s] * width;
    ForEachPart(s, layer, [&](float* keys, int64_t slot, int64_t first, int64_t count) {
      for (int64_t head = 0; head < num_kv_heads_; ++head) {
        float* to = keys + PlaneSize() + (head * pool_.block_size + slot) * row_lanes_;
        const float* from = v + first * width + head * head_dim_;
        for (int64_t i = 0; i < count; ++i, from += width, to += row_lanes_) {
          if (is_bf16_) {
            BestCpuKernels().pair_halves(from, head_dim_, reinterpret_cast<Bf16Pair*>(to));
          } else {
            std::copy_n(from, head_dim_, to);
          }
        }
      }
    });
  }

  // One token of a sequence that forgets: each head has its own slot for it.
  void ReplaceToken(size_t s, int64_t layer, const float* k, const float* v) const {
    const PagedSequence& sequence = sequences_[s];
    for (int64_t head = 0; head < num_kv_heads_; ++head) {
      const int64_t slot = sequence.heavy_hitters->SlotOf(layer, head, sequence.num_cached);
      float* planes = blocks_[first_blocks_[s] + static_cast<size_t>(slot / pool_.block_size)] +
                      layer * 2 * PlaneSize();
      const int64_t in_block = slot % pool_.block_size;
      const int64_t head_size = pool_.block_size * row_lanes_;
      const float* key = k + (first_rows_[s] * num_kv_heads_ + head) * row_lanes_;
      float* keys = planes + head * head_size + in_block;
      for (int64_t d = 0; d < row_lanes_; ++d) keys[d * pool_.block_size] = key[d];
      const float* value = v + (first_rows_[s] * num_kv_heads_ + head) * head_dim_;
      float* to = planes + PlaneSize() + head * head_size + in_block * row_lanes_;
      if (is_bf16_) {
        BestCpuKernels().pair_halves(value, head_dim_, reinterpret_cast<Bf16Pair*>(to));
      } else {
        std::copy_n(value, head_dim_, to);
      }
    }
  }

  void AttendTask(const Task& task, int64_t layer, int thread, const at::Tensor& q,
                  const at::Tensor& out) {
    const LayerAttention& law = layers_[static_cast<size_t>(layer)];
    const PagedSequence& sequence = sequences_[task.sequence];
    HeavyHitters* heavy = sequence.heavy_hitters;
    const int64_t group = num_heads_ / num_kv_heads_;
    const int64_t q_stride = num_heads_ * head_dim_;
    const int64_t head_size = pool_.block_size * row_lanes_;
    const int64_t at = (first_rows_[task.sequence] + task.first_query) * q_stride +
                       task.first_head * group * head_dim_;
    const int64_t k_offset = layer * 2 * PlaneSize() + task.first_head * head_size;
    const float* const* blocks = blocks_.data() + first_blocks_[task.sequence];
    const AttentionArgs args{
        .q = q.const_data_ptr<float>() + at,
        .q_stride = q_stride,
        .num_queries = task.num_queries,
        .first_position = NumSlots(sequence) - sequence.num_new + task.first_query,
        .num_heads = task.num_heads * group,
        .num_kv_heads = task.num_heads,
        .head_dim = head_dim_,
        .block_size = pool_.block_size,
        .k_blocks = blocks,
        .k_offset = k_offset,
        .k_head_stride = head_size,
        .v_blocks = blocks,
        .v_offset = k_offset + PlaneSize(),
        .v_head_stride = head_size,
        .v_stride = row_lanes_,
        .scale = static_cast<float>(law.scale),
        .softcap = softcap_,
        .window = law.window,
        .out = out.mutable_data_ptr<float>() + at,
        .out_stride = q_stride,
        .stats = nullptr,
        .received = heavy == nullptr ? nullptr : heavy->scores(layer, task.first_head),
        .received_stride = heavy == nullptr ? 0 : heavy->capacity(),
        .scratch = scratch_.data() + thread * scratch_size_};
    if (is_bf16_) {
      BestCpuKernels().attention_bf16(args);
    } else {
      BestCpuKernels().attention(args);
    }
    if (!ReusesSlots(sequence)) return;
    for (int64_t head = task.first_head; head < task.first_head + task.num_heads; ++head) {
      heavy->Evict(layer, head, sequence.num_cached);
    }
  }

  // Of writing one key and one value, in the elements that Compute counts.
  static constexpr int64_t kAppendCost = 4;

  const int64_t num_layers_;
  const int64_t num_heads_;
  const int64_t num_kv_heads_;
  const int64_t head_dim_;
  const bool is_bf16_;
  const int64_t row_lanes_;  // floats, or pairs, of one head's key or value
  const float softcap_;
  std::vector<LayerAttention> layers_;
  const KvPool pool_;
  const Compute compute_;
  const std::vector<PagedSequence> sequences_;

  // Of Prepare; each sequence has a first row in the call and a first block in blocks_.
  bool is_prepared_ = false;
  std::vector<int64_t> first_rows_;
  std::vector<size_t> first_blocks_;
  std::vector<float*> blocks_;
  std::vector<Task> tasks_;
  int64_t scratch_size_ = 0;
  std::vector<float> scratch_;  // of each thread
};

}  // namespace

void CompactHeavyHitters(const ModelConfig& config, const KvPool& pool,
                         std::span<const int32_t> block_table, HeavyHitters* heavy_hitters) {
  const int64_t row_lanes =
      config.precision == Precision::kBFloat16 ? NumBf16Pairs(config.head_dim) : config.head_dim;
  const int64_t head_size = pool.block_size * row_lanes;
  const int64_t plane = config.num_kv_heads * head_size;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (int64_t head = 0; head < config.num_kv_heads; ++head) {
      const auto planes = [&](int32_t slot) {
        const int64_t block = block_table[static_cast<size_t>(slot / pool.block_size)];
        return pool.data + (block * config.num_layers + layer) * 2 * plane + head * head_size;
      };
      const std::vector<int32_t> kept = heavy_hitters->CompactHead(layer, head);
      // Ascending, so that nothing is overwritten before it has moved.
      for (size_t slot = 0; slot < kept.size(); ++slot) {
        const auto to = static_cast<int32_t>(slot);
        const int32_t from = kept[slot];
        if (from == to) continue;
        const float* from_key = planes(from) + from % pool.block_size;
        float* to_key = planes(to) + to % pool.block_size;
        for (int64_t d = 0; d < row_lanes; ++d) {
          to_key[d * pool.block_size] = from_key[d * pool.block_size];
        }
        std::copy_n(planes(from) + plane + from % pool.block_size * row_lanes, row_lanes,
                    planes(to) + plane + to % pool.block_size * row_lanes);
      }
    }
  }
  heavy_hitters->FinishCompaction();
}

std::unique_ptr<AttentionContext> MakePagedAttention(const ModelConfig& config, KvPool pool,
                                                     std::vector<PagedSequence> sequences,
                                                     const Compute& compute) {
  return std::make_unique<PagedAttention>(config, pool, std::move(sequences), compute);
}

}  // namespace rollcall
