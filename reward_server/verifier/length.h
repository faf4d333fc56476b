// 1 when the length is within [min, max]; outside it falls linearly and reaches 0 at a distance of
// falloff + 1.
#pragma once

#include <memory>

#include "reward_server/scoring/scorer.h"
#include "services/base/status/status.h"
#include "services/common/scoring/scorer_catalog.h"

namespace rollcall {

StatusOr<std::unique_ptr<const Scorer>> MakeLength(const ScorerOptions& options);

}  // namespace rollcall
