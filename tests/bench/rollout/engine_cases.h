// What the engine is timed at. Each case prints one JSON object.
#pragma once

#include <cstdint>
#include <string>

#include "services/base/status/status.h"
#include "tests/bench/rollout/engine_rig.h"

namespace rollcall {

// The prompts of a file, all at hand at the start. A line is one prompt: how many tokens to sample,
// then the prompt's tokens. Prints seconds and tokens of the whole, and the share of KV slots in
// use that hold nothing, averaged over steps.
Status RunWork(RigOptions options, const std::string& work_path);

struct DecodeCase {
  int32_t num_sequences = 1;
  int32_t prompt_tokens = 128;
  int32_t new_tokens = 128;
};
// Prints seconds and tokens of the steps until every sequence has its first token, and of those
// after them in which all sequences sample one token each.
Status RunDecode(RigOptions options, const DecodeCase& shape);

// Prints how many prompt tokens are computed for one prompt with many samples.
Status RunGroup(RigOptions options, int32_t num_samples);

}  // namespace rollcall
