// Share of positions at which completion and answer agree: matches / max(length of completion,
// length of answer), so that every unit too many costs as much as one that is wrong; without
// length_penalty matches / length of answer. In [0, 1]. An empty answer is the data failure
// "bad_ground_truth".
#pragma once

#include <memory>

#include "reward_server/scoring/scorer.h"
#include "services/base/status/status.h"
#include "services/common/scoring/scorer_catalog.h"

namespace rollcall {

StatusOr<std::unique_ptr<const Scorer>> MakeCharAccuracy(const ScorerOptions& options);

}  // namespace rollcall
