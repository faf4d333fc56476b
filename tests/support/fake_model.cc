#include "tests/support/fake_model.h"

#include <algorithm>
#include <cstring>

#include "services/base/runtime/random.h"

namespace rollcall::testing {

std::vector<float> FakeLogits(uint64_t seed, std::span<const int32_t> tokens, int64_t vocab_size) {
  std::vector<uint64_t> words = {seed};
  words.insert(words.end(), tokens.begin(), tokens.end());
  const CounterRandom random(MixKey(words));
  std::vector<float> logits(static_cast<size_t>(vocab_size));
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = static_cast<float>(4.0 * random.UniformAt(i) - 2.0);
  }
  return logits;
}

FakeModelRunner::FakeModelRunner(int64_t vocab_size, int32_t num_blocks, int32_t block_size)
    : vocab_size_(vocab_size),
      block_size_(block_size),
      memory_(static_cast<size_t>(num_blocks) * static_cast<size_t>(block_size)) {}

FakeModelRunner::Slot& FakeModelRunner::SlotAt(const BatchSequence& sequence, int32_t position) {
  const BlockId block = sequence.block_table[static_cast<size_t>(position / block_size_)];
  return memory_[static_cast<size_t>(block) * block_size_ + position % block_size_];
}

StatusOr<std::span<const float>> FakeModelRunner::Run(const RunnableModel& model,
                                                      const BatchLayout& batch) {
  if (before_batch) ROLLCALL_RETURN_IF_ERROR(before_batch(batch));
  const uint64_t seed = static_cast<const FakeModel&>(model).seed();
  logits_.clear();
  num_computed += static_cast<int64_t>(batch.token_ids.size());
  largest_batch = std::max(largest_batch, static_cast<int32_t>(batch.token_ids.size()));
  ++num_batches;
  // All writes of a step happen before its reads, as in a batched kernel.
  size_t row = 0;
  for (const BatchSequence& sequence : batch.sequences) {
    for (int32_t i = 0; i < sequence.num_new; ++i, ++row) {
      const int32_t position = sequence.num_cached + i;
      if (batch.positions[row] != position) complaint = "positions do not follow the cache";
      SlotAt(sequence, position) = {seed, position, batch.token_ids[row]};
    }
  }
  int64_t end_row = 0;
  size_t next_wanted = 0;
  size_t next_scored = 0;
  std::vector<int32_t> tokens;
  for (const BatchSequence& sequence : batch.sequences) {
    end_row += sequence.num_new;
    const int32_t length = sequence.num_cached + sequence.num_new;
    tokens.clear();
    for (int32_t position = 0; position < length; ++position) {
      const Slot& slot = SlotAt(sequence, position);
      if (slot.seed != seed && !allows_other_models)
        complaint = "a block of another model was read";
      if (slot.position != position) complaint = "a slot of another position was read";
      tokens.push_back(slot.token);
    }
    const int64_t first_row = end_row - sequence.num_new;
    for (; next_scored < batch.scored_rows.size() && batch.scored_rows[next_scored] < end_row;
         ++next_scored) {
      const auto known =
          static_cast<size_t>(sequence.num_cached + 1 + batch.scored_rows[next_scored] - first_row);
      std::vector<float> logits = FakeLogits(seed, std::span(tokens).first(known), vocab_size_);
      if (edit_logits) edit_logits(logits);
      batch.on_scored(next_scored, logits);
    }
    if (next_wanted == batch.logit_rows.size() || batch.logit_rows[next_wanted] != end_row - 1) {
      continue;
    }
    ++next_wanted;
    const std::vector<float> logits = FakeLogits(seed, tokens, vocab_size_);
    logits_.insert(logits_.end(), logits.begin(), logits.end());
  }
  if (next_scored != batch.scored_rows.size()) complaint = "scored rows are not in order";
  if (next_wanted != batch.logit_rows.size()) complaint = "logits wanted inside a chunk";
  if (edit_logits) edit_logits(logits_);
  return std::span<const float>(logits_);
}

void FakeModelRunner::CopyBlock(BlockId from, BlockId to) {
  std::copy_n(memory_.begin() + static_cast<ptrdiff_t>(from) * block_size_, block_size_,
              memory_.begin() + static_cast<ptrdiff_t>(to) * block_size_);
}

int64_t FakeModelRunner::block_bytes() const {
  return static_cast<int64_t>(sizeof(Slot)) * block_size_;
}

void FakeModelRunner::ReadBlocks(BlockId first, int32_t count, std::byte* out) const {
  std::memcpy(out, memory_.data() + static_cast<ptrdiff_t>(first) * block_size_,
              static_cast<size_t>(count * block_bytes()));
}

void FakeModelRunner::WriteBlocks(BlockId first, int32_t count, const std::byte* in) {
  std::memcpy(memory_.data() + static_cast<ptrdiff_t>(first) * block_size_, in,
              static_cast<size_t>(count * block_bytes()));
}

}  // namespace rollcall::testing
