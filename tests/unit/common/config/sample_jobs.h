// Job files that tests start from.
#pragma once

#include <string>

namespace rollcall::testing {

inline const char kGrpoJob[] = R"(run:
  name: add
model:
  path: model
data:
  path: prompts.jsonl
rollout:
  temperature: 0.9
  max_new_tokens: 32
reward:
  scorers:
    - type: exact_match
algorithm:
  preset: grpo
train:
  total_steps: 100
)";

inline const char kSftJob[] = R"(run: {name: warm-start}
model: {path: model}
data: {path: rows.jsonl}
algorithm: {preset: sft}
train: {total_steps: 20}
)";

inline const char kDpoJob[] = R"(run: {name: prefer}
model: {path: model}
data: {kind: pairs, path: pairs.jsonl}
algorithm: {preset: dpo}
train: {total_steps: 20}
)";

}  // namespace rollcall::testing
