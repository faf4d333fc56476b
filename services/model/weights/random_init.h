// Initial values of a decoder. No torch: InitModelDirectory and InitializeWeights share it.
#pragma once

#include <cstdint>
#include <span>

#include "services/model/config/model_config.h"
#include "services/model/weights/architecture.h"

namespace rollcall {

// Fills an arena (ArenaValues long): Normal(0, 0.02) matrices, norms that multiply with one, biases
// of zero, residual outputs scaled by 1/sqrt(2*layers), a value or score head of zero. Depends on
// sizes and seed alone; every tensor has a random stream of its own.
void FillInitialValues(const ModelConfig& config, Head head, uint64_t seed, std::span<float> arena);

}  // namespace rollcall
