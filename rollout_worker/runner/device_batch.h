// The integers of one step, as the device wants them: gathered in one buffer of the host and copied
// in one piece.
#pragma once

#include <cstdint>

#include "rollout_worker/runner/device_runtime.h"
#include "rollout_worker/runner/model_runner.h"
#include "services/base/status/status.h"
#include "services/model/config/model_config.h"
#include "services/model/decoder/device_attention.h"
#include "services/model/tensor.h"

namespace rollcall {

// kInvalidArgument names what is out of range: tokens, positions, blocks, rows, a table that is too
// short.
Status CheckBatch(const ModelConfig& config, int64_t num_blocks, int64_t block_size,
                  const BatchLayout& batch);

// Room of a buffer; a batch with fewer sequences is padded with sequences of one token and no keys.
struct DeviceBatchShape {
  int64_t num_tokens = 0;
  int64_t num_sequences = 0;
  int64_t table_stride = 1;  // blocks of the longest sequence
  int64_t num_rows = 0;      // of logits, kept and scored
};

class DeviceBatch {
 public:
  DeviceBatch(DeviceRuntime& runtime, const DeviceBatchShape& shape);

  // Copies the batch, which must fit: as many tokens as there is room for, or one for each
  // sequence. The copy is started; the host's buffer may be filled again when the device has
  // waited.
  void Fill(const BatchLayout& batch, int64_t block_size);

  const DeviceBatchShape& shape() const { return shape_; }
  // Int32 on the device.
  const at::Tensor& token_ids_N() const { return token_ids_N_; }
  const at::Tensor& positions_N() const { return positions_N_; }
  // Those whose logits are kept, then those that are scored.
  const at::Tensor& rows_R() const { return rows_R_; }
  // With bounds that the caller sets.
  DeviceSequences sequences() const;

 private:
  const DeviceBatchShape shape_;
  at::Tensor host_;
  at::Tensor device_;
  at::Tensor token_ids_N_, positions_N_, slots_N_, query_starts_S1_, num_keys_S_, tables_ST_,
      rows_R_;  // parts of device_, in this order
};

}  // namespace rollcall
