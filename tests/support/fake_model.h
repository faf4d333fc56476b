// A model of a few lines for tests of the engine: its logits are a fixed function of (model, all
// tokens before), read back from the KV memory it was given. A block of another sequence, of
// another model, or one that was overwritten therefore changes the result, and is reported as well.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rollout_worker/runner/model_runner.h"

namespace rollcall::testing {

class FakeModel final : public RunnableModel {
 public:
  explicit FakeModel(uint64_t seed) : seed_(seed) {}
  uint64_t seed() const { return seed_; }

 private:
  const uint64_t seed_;
};

// Logits after `tokens`, in [-2, 2].
std::vector<float> FakeLogits(uint64_t seed, std::span<const int32_t> tokens, int64_t vocab_size);

class FakeModelRunner final : public ModelRunner {
 public:
  FakeModelRunner(int64_t vocab_size, int32_t num_blocks, int32_t block_size);

  StatusOr<std::span<const float>> Run(const RunnableModel& model,
                                       const BatchLayout& batch) override;
  Status CompactHeavyHitters(std::span<const BlockId> /*block_table*/,
                             HeavyHitters* /*heavy_hitters*/) override {
    return MakeStatus(StatusCode::kUnimplemented, "the fake keeps everything");
  }
  void CopyBlock(BlockId from, BlockId to) override;
  int64_t block_bytes() const override;
  void ReadBlocks(BlockId first, int32_t count, std::byte* out) const override;
  void WriteBlocks(BlockId first, int32_t count, const std::byte* in) override;

  // What went wrong with the memory, empty if nothing did.
  std::string complaint;
  int64_t num_computed = 0;
  int64_t num_batches = 0;
  int32_t largest_batch = 0;
  // Sequences may go on over keys and values of other weights (UpdateMode::kKeep).
  bool allows_other_models = false;
  // Called before each batch; a status that is not OK fails it.
  std::function<Status(const BatchLayout&)> before_batch;
  // Called on the finished logits.
  std::function<void(std::span<float>)> edit_logits;

 private:
  struct Slot {
    uint64_t seed = 0;
    int32_t position = -1;
    int32_t token = -1;
  };
  Slot& SlotAt(const BatchSequence& sequence, int32_t position);

  const int64_t vocab_size_;
  const int32_t block_size_;
  std::vector<Slot> memory_;
  std::vector<float> logits_;
};

}  // namespace rollcall::testing
