// One row of logits under a law: edits, then the kept logits side by side, and back for gradients.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "services/model/law/logit_edits.h"
#include "services/model/law/row_laws.h"

namespace rollcall {

// Keeps buffers of one vocabulary; one row at a time. Not thread-safe.
class LawRow {
 public:
  // `laws` may be null: rows stay as they are.
  LawRow(const RowLaws* laws, int64_t vocab_size);

  // What is left of row n, to take the log-softmax of: the row itself, or a buffer of this object.
  struct Kept {
    float* logits = nullptr;
    int64_t width = 0;
    int64_t target = 0;  // place of the target in it
  };
  // Edits row n of logits in place. Throws std::invalid_argument when its target was not kept.
  Kept Apply(int64_t n, int32_t target, std::span<float> logits_V);

  // The gradient for what Apply gave, written over it, into that for the logits before it.
  void Backward(const Kept& kept, std::span<float> dlogits_V) const;

 private:
  const RowLaws* const laws_;
  LogitEdits edits_;
  std::vector<int32_t> ids_;
  std::vector<float> kept_logits_;
};

}  // namespace rollcall
