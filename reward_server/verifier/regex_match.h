// 1 when the pattern matches the completion, else 0.
#pragma once

#include <memory>

#include "reward_server/scoring/scorer.h"
#include "services/base/status/status.h"
#include "services/common/scoring/scorer_catalog.h"

namespace rollcall {

StatusOr<std::unique_ptr<const Scorer>> MakeRegexMatch(const ScorerOptions& options);

}  // namespace rollcall
