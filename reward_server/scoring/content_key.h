// The name of a score: equal for equal scorer, settings and content.
#pragma once

#include <string_view>

#include "reward_server/scoring/scorer.h"
#include "services/common/storage/files.h"

namespace rollcall {

// XXH3-128 over prompt, completion and what the scorer reads besides, each with its length.
// `identity` is ScorerOptions::Identity().
Hash128 ContentKey(std::string_view identity, ScorerReads reads, const ScoreInput& input);

}  // namespace rollcall
