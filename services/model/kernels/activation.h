// The feed-forward block's non-linearity, element by element: y = act(gate) * up, or act(gate).
// Sources: Shazeer 2020, arXiv 2002.05202; Hendrycks and Gimpel 2016, arXiv 1606.08415.
#pragma once

#include <cstdint>

#include "services/model/config/activation.h"

namespace rollcall {

struct ActivationArgs {
  Activation activation = Activation::kSilu;
  const float* gate = nullptr;
  const float* up = nullptr;  // null: a plain block
  int64_t size = 0;
  float* y = nullptr;  // may be gate or up
};

struct ActivationGradArgs {
  Activation activation = Activation::kSilu;
  const float* gate = nullptr;
  const float* up = nullptr;  // null: a plain block
  const float* dy = nullptr;
  int64_t size = 0;
  float* dgate = nullptr;
  float* dup = nullptr;  // not written in a plain block
};

}  // namespace rollcall
