#include "rollout_worker/runner/device_batch.h"

#include <algorithm>
#include <string>

#include <ATen/ops/empty.h>

namespace rollcall {
namespace {

Status CheckBelow(int64_t value, int64_t bound, const char* what) {
  if (value >= 0 && value < bound) return OkStatus();
  return InvalidArgument(std::string(what) + " " + std::to_string(value) + " is outside 0 .. " +
                         std::to_string(bound - 1));
}

}  // namespace

Status CheckBatch(const ModelConfig& config, int64_t num_blocks, int64_t block_size,
                  const BatchLayout& batch) {
  const auto num_tokens = static_cast<int64_t>(batch.token_ids.size());
  if (batch.positions.size() != batch.token_ids.size()) {
    return InvalidArgument(std::to_string(num_tokens) + " tokens with " +
                           std::to_string(batch.positions.size()) + " positions");
  }
  for (int32_t id : batch.token_ids) {
    ROLLCALL_RETURN_IF_ERROR(CheckBelow(id, config.vocab_size, "token id"));
  }
  for (int32_t position : batch.positions) {
    ROLLCALL_RETURN_IF_ERROR(CheckBelow(position, config.max_positions, "position"));
  }
  for (int64_t row : batch.logit_rows) {
    ROLLCALL_RETURN_IF_ERROR(CheckBelow(row, num_tokens, "row of logits"));
  }
  for (int64_t row : batch.scored_rows) {
    ROLLCALL_RETURN_IF_ERROR(CheckBelow(row, num_tokens, "scored row"));
  }
  int64_t total = 0;
  for (const BatchSequence& sequence : batch.sequences) {
    const int64_t num_keys = int64_t{sequence.num_cached} + sequence.num_new;
    if (sequence.num_cached < 0 || sequence.num_new < 0 ||
        static_cast<int64_t>(sequence.block_table.size()) * block_size < num_keys) {
      return InvalidArgument("a block table of " + std::to_string(sequence.block_table.size()) +
                             " blocks does not cover " + std::to_string(num_keys) + " tokens");
    }
    for (BlockId block : sequence.block_table) {
      ROLLCALL_RETURN_IF_ERROR(CheckBelow(block, num_blocks, "block"));
    }
    total += sequence.num_new;
  }
  if (total != num_tokens) {
    return InvalidArgument("the sequences bring " + std::to_string(total) +
                           " tokens, the batch has " + std::to_string(num_tokens));
  }
  return OkStatus();
}

DeviceBatch::DeviceBatch(DeviceRuntime& runtime, const DeviceBatchShape& shape) : shape_(shape) {
  const int64_t size = 3 * shape.num_tokens + 2 * shape.num_sequences + 1 +
                       shape.num_sequences * shape.table_stride + shape.num_rows;
  host_ = runtime.HostBuffer(size, at::kInt);
  device_ = at::empty({size}, at::TensorOptions().device(runtime.place()).dtype(at::kInt));
  int64_t at = 0;
  const auto part = [&](int64_t count) {
    at::Tensor view = device_.narrow(0, at, count);
    at += count;
    return view;
  };
  token_ids_N_ = part(shape.num_tokens);
  positions_N_ = part(shape.num_tokens);
  slots_N_ = part(shape.num_tokens);
  query_starts_S1_ = part(shape.num_sequences + 1);
  num_keys_S_ = part(shape.num_sequences);
  tables_ST_ = part(shape.num_sequences * shape.table_stride)
                   .view({shape.num_sequences, shape.table_stride});
  rows_R_ = part(shape.num_rows);
}

void DeviceBatch::Fill(const BatchLayout& batch, int64_t block_size) {
  const auto num_tokens = static_cast<int64_t>(batch.token_ids.size());
  const auto num_sequences = static_cast<int64_t>(batch.sequences.size());
  const auto num_rows = static_cast<int64_t>(batch.logit_rows.size() + batch.scored_rows.size());
  const int64_t padding = shape_.num_sequences - num_sequences;
  ROLLCALL_CHECK(
      padding >= 0 && num_tokens + padding == shape_.num_tokens && num_rows <= shape_.num_rows,
      "a batch does not fit into its buffer");
  int32_t* out = host_.mutable_data_ptr<int32_t>();
  std::fill_n(out, host_.numel(), 0);
  std::copy(batch.token_ids.begin(), batch.token_ids.end(), out);
  std::copy(batch.positions.begin(), batch.positions.end(), out + shape_.num_tokens);
  int32_t* slots = out + 2 * shape_.num_tokens;
  int32_t* starts = slots + shape_.num_tokens;
  int32_t* num_keys = starts + shape_.num_sequences + 1;
  int32_t* tables = num_keys + shape_.num_sequences;
  int64_t row = 0;
  for (int64_t s = 0; s < num_sequences; ++s) {
    const BatchSequence& sequence = batch.sequences[static_cast<size_t>(s)];
    num_keys[s] = sequence.num_cached + sequence.num_new;
    for (int64_t position = sequence.num_cached; position < num_keys[s]; ++position) {
      const BlockId block = sequence.block_table[static_cast<size_t>(position / block_size)];
      slots[row++] = static_cast<int32_t>(block * block_size + position % block_size);
    }
    starts[s + 1] = static_cast<int32_t>(row);
    const auto used = static_cast<size_t>((num_keys[s] + block_size - 1) / block_size);
    std::copy_n(sequence.block_table.begin(), used, tables + s * shape_.table_stride);
  }
  for (int64_t s = num_sequences; s < shape_.num_sequences; ++s) {
    slots[row++] = -1;
    starts[s + 1] = static_cast<int32_t>(row);
  }
  int32_t* rows = tables + shape_.num_sequences * shape_.table_stride;
  const auto narrow = [](int64_t r) { return static_cast<int32_t>(r); };
  rows = std::transform(batch.logit_rows.begin(), batch.logit_rows.end(), rows, narrow);
  std::transform(batch.scored_rows.begin(), batch.scored_rows.end(), rows, narrow);
  device_.copy_(host_, /*non_blocking=*/true);
}

DeviceSequences DeviceBatch::sequences() const {
  return {.slots_N = slots_N_,
          .query_starts_S1 = query_starts_S1_,
          .num_keys_S = num_keys_S_,
          .block_tables_ST = tables_ST_};
}

}  // namespace rollcall
