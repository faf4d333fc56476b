// 1 when the completion (or what `extract` cuts out of it) is the answer, else 0. A completion in
// which `extract` finds nothing is wrong, not failed.
#pragma once

#include <memory>

#include "reward_server/scoring/scorer.h"
#include "services/base/status/status.h"
#include "services/common/scoring/scorer_catalog.h"

namespace rollcall {

StatusOr<std::unique_ptr<const Scorer>> MakeExactMatch(const ScorerOptions& options);

}  // namespace rollcall
