// Runs a model over one batch of a step. The engine knows this interface only; the real one calls
// the shared decoder, tests have one that checks what it is given.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "rollout_worker/kv_cache/block_store.h"
#include "services/base/status/status.h"
#include "services/model/decoder/heavy_hitters.h"

namespace rollcall {

// Weights of one policy version, ready to run. Immutable; freed by the last owner.
class RunnableModel {
 public:
  virtual ~RunnableModel() = default;
};

// One sequence's tokens in a batch.
struct BatchSequence {
  std::span<const BlockId> block_table;  // covers num_cached + num_new tokens
  int32_t num_cached = 0;
  int32_t num_new = 0;
  // Not null: the sequence forgets; decoder/heavy_hitters.h. The block table covers its slots.
  HeavyHitters* heavy_hitters = nullptr;
};

// Logits of scored_rows come in pieces of at most so many bytes, or of one row.
inline constexpr int64_t kMaxScoredLogitBytes = 16LL << 20;
inline size_t ScoredRowsAtOnce(int64_t vocab_size) {
  const int64_t row_bytes = vocab_size * static_cast<int64_t>(sizeof(float));
  return static_cast<size_t>(std::max<int64_t>(1, kMaxScoredLogitBytes / row_bytes));
}

// Sequences one after the other, flat. All run under one model.
struct BatchLayout {
  std::vector<int32_t> token_ids;
  std::vector<int32_t> positions;
  std::vector<BatchSequence> sequences;
  std::vector<int64_t> logit_rows;  // tokens whose logits are wanted, ascending
  // Tokens whose logits are read once and not kept, ascending: `on_scored` gets those of
  // scored_rows[first] and the rows after it, before the run ends. Null only without scored rows.
  std::vector<int64_t> scored_rows;
  std::function<void(size_t first, std::span<const float> logits)> on_scored;

  void Clear() {
    token_ids.clear();
    positions.clear();
    sequences.clear();
    logit_rows.clear();
    scored_rows.clear();
  }
};

// Owns the KV memory. Runs on one thread.
class ModelRunner : public BlockStore {
 public:
  // Computes keys and values of every token of the batch, the logits of scored_rows, and the logits
  // of logit_rows, row after row. The result is valid until the next call.
  virtual StatusOr<std::span<const float>> Run(const RunnableModel& model,
                                               const BatchLayout& batch) = 0;
  // Moves what the heavy hitters of a computed prompt keep to the first slots of its blocks.
  // kUnimplemented: this runner keeps everything.
  virtual Status CompactHeavyHitters(std::span<const BlockId> block_table,
                                     HeavyHitters* heavy_hitters) = 0;
};

}  // namespace rollcall
