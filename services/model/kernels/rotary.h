// Rotary position embedding, Hugging Face's half-split convention: element i of a head's first half
// turns with element i of its second half by the angle that the table holds. Where a head turns in
// part, the halves are those of the part and the rest stays.
// Source: Su et al. 2021, arXiv 2104.09864.
#pragma once

#include <cstdint>

namespace rollcall {

struct RotaryArgs {
  float* x = nullptr;  // [N, heads*D], in place
  int64_t num_rows = 0;
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;              // R, the first elements of a head, which turn; even
  const float* table = nullptr;        // row p: R/2 cosines, then R/2 sines
  const int32_t* positions = nullptr;  // [N]
  float direction = 1.0F;              // -1 turns back: the gradient
};

}  // namespace rollcall
