#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "services/model/decoder/decoder.h"
#include "services/model/kernels/cpu_kernels.h"
#include "services/model/layers/forward.h"

// Letters: K kv heads, D head dim, B tokens of a block.
namespace rollcall {
namespace {

class PagedAttention final : public AttentionContext {
 public:
  PagedAttention(const ModelConfig& config, KvPool pool, std::vector<PagedSequence> sequences)
      : num_layers_(config.num_layers),
        num_heads_(config.num_heads),
        num_kv_heads_(config.num_kv_heads),
        head_dim_(config.head_dim),
        softcap_(static_cast<float>(config.attention_softcap)),
        pool_(pool),
        sequences_(std::move(sequences)) {
    layers_.reserve(static_cast<size_t>(num_layers_));
    for (int64_t layer = 0; layer < num_layers_; ++layer) {
      layers_.push_back(AttentionOfLayer(config, layer));
    }
    int64_t longest = 0;
    for (const PagedSequence& sequence : sequences_) {
      longest = std::max<int64_t>(longest, int64_t{sequence.num_cached} + sequence.num_new);
    }
    scratch_.resize(static_cast<size_t>(AttentionScratch(longest)));
  }

  at::Tensor Attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v) override {
    Check(q.size(0));
    const at::Tensor out = forward::Empty(q.sizes());
    int64_t row = 0;
    for (const PagedSequence& sequence : sequences_) {
      if (sequence.num_new == 0) continue;
      ListBlocks(sequence, layer);
      const int64_t at = row * num_kv_heads_ * head_dim_;
      Append(sequence, k.const_data_ptr<float>() + at, v.const_data_ptr<float>() + at);
      AttendSequence(sequence, layers_[static_cast<size_t>(layer)], row, q, out);
      row += sequence.num_new;
    }
    return out;
  }

 private:
  // The scheduler's block tables, checked once for all layers.
  void Check(int64_t num_rows) {
    if (checked_) return;
    int64_t total = 0;
    for (const PagedSequence& sequence : sequences_) {
      const int64_t num_tokens = int64_t{sequence.num_cached} + sequence.num_new;
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
    checked_ = true;
  }

  // Where this layer lies in each block of the sequence.
  void ListBlocks(const PagedSequence& sequence, int64_t layer) {
    const int64_t num_tokens = int64_t{sequence.num_cached} + sequence.num_new;
    const int64_t num_blocks = (num_tokens + pool_.block_size - 1) / pool_.block_size;
    const int64_t plane = num_kv_heads_ * pool_.block_size * head_dim_;
    k_blocks_.resize(static_cast<size_t>(num_blocks));
    v_blocks_.resize(static_cast<size_t>(num_blocks));
    for (size_t i = 0; i < k_blocks_.size(); ++i) {
      k_blocks_[i] =
          pool_.data + (int64_t{sequence.block_table[i]} * num_layers_ + layer) * 2 * plane;
      v_blocks_[i] = k_blocks_[i] + plane;
    }
  }

  // Writes the new tokens' keys and values, block by block.
  void Append(const PagedSequence& sequence, const float* k, const float* v) {
    const int64_t stride = num_kv_heads_ * head_dim_;
    const int64_t end = int64_t{sequence.num_cached} + sequence.num_new;
    for (int64_t position = sequence.num_cached; position < end;) {
      const int64_t slot = position % pool_.block_size;
      const int64_t count = std::min(pool_.block_size - slot, end - position);
      const auto block = static_cast<size_t>(position / pool_.block_size);
      // All heads are one matrix of [K*D] rows in the block, as they are columns of k.
      BestCpuKernels().transpose(k, stride, stride, count, k_blocks_[block] + slot,
                                 pool_.block_size);
      for (int64_t head = 0; head < num_kv_heads_; ++head) {
        float* values = v_blocks_[block] + (head * pool_.block_size + slot) * head_dim_;
        for (int64_t i = 0; i < count; ++i) {
          std::copy_n(v + i * stride + head * head_dim_, head_dim_, values + i * head_dim_);
        }
      }
      k += count * stride;
      v += count * stride;
      position += count;
    }
  }

  void AttendSequence(const PagedSequence& sequence, const LayerAttention& layer, int64_t row,
                      const at::Tensor& q, const at::Tensor& out) {
    const int64_t q_stride = num_heads_ * head_dim_;
    const int64_t head_size = pool_.block_size * head_dim_;
    BestCpuKernels().attention({.q = q.const_data_ptr<float>() + row * q_stride,
                                .q_stride = q_stride,
                                .num_queries = sequence.num_new,
                                .first_position = sequence.num_cached,
                                .num_heads = num_heads_,
                                .num_kv_heads = num_kv_heads_,
                                .head_dim = head_dim_,
                                .block_size = pool_.block_size,
                                .k_blocks = k_blocks_.data(),
                                .k_head_stride = head_size,
                                .v_blocks = v_blocks_.data(),
                                .v_head_stride = head_size,
                                .v_stride = head_dim_,
                                .scale = static_cast<float>(layer.scale),
                                .softcap = softcap_,
                                .window = layer.window,
                                .out = out.mutable_data_ptr<float>() + row * q_stride,
                                .out_stride = q_stride,
                                .stats = nullptr,
                                .scratch = scratch_.data()});
  }

  const int64_t num_layers_;
  const int64_t num_heads_;
  const int64_t num_kv_heads_;
  const int64_t head_dim_;
  const float softcap_;
  std::vector<LayerAttention> layers_;
  const KvPool pool_;
  const std::vector<PagedSequence> sequences_;
  bool checked_ = false;
  std::vector<float*> k_blocks_;
  std::vector<float*> v_blocks_;
  std::vector<float> scratch_;
};

}  // namespace

std::unique_ptr<AttentionContext> MakePagedAttention(const ModelConfig& config, KvPool pool,
                                                     std::vector<PagedSequence> sequences) {
  return std::make_unique<PagedAttention>(config, pool, std::move(sequences));
}

}  // namespace rollcall
