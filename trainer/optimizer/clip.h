// Gradient norm and clipping by it.
#pragma once

#include <span>

namespace rollcall {

// Euclidean norm, added up in float64 in a fixed order. Not finite when an entry is not.
double GlobalNorm(std::span<const float> gradient);

// Scales the gradient to norm `max_norm` when `norm` is larger; max_norm 0 never does. Returns
// whether it did.
bool ClipByNorm(double norm, double max_norm, std::span<float> gradient);

}  // namespace rollcall
