// 1 when the completion, white space aside, is one well-formed JSON text of the wanted type with
// the required keys, nested at most 64 deep; else 0.
#pragma once

#include <memory>

#include "reward_server/scoring/scorer.h"
#include "services/base/status/status.h"
#include "services/common/scoring/scorer_catalog.h"

namespace rollcall {

StatusOr<std::unique_ptr<const Scorer>> MakeJsonFormat(const ScorerOptions& options);

}  // namespace rollcall
