// 1 when a number of the completion equals the answer: |x - answer| <= tolerance +
// relative_tolerance * |answer|. Numbers are decimal, with an optional sign, fraction, exponent and
// thousands separators ("-1,234.5e3"). A completion without a number is wrong; an answer that is
// not a number is the data failure "bad_ground_truth".
#pragma once

#include <memory>

#include "reward_server/scoring/scorer.h"
#include "services/base/status/status.h"
#include "services/common/scoring/scorer_catalog.h"

namespace rollcall {

StatusOr<std::unique_ptr<const Scorer>> MakeNumeric(const ScorerOptions& options);

}  // namespace rollcall
