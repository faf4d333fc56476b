// A method: one part for every factor, looked up and checked against each other.
#pragma once

#include <optional>

#include "services/base/status/status.h"
#include "trainer/advantage/registry.h"
#include "trainer/batch/aggregation.h"
#include "trainer/correction/correction.h"
#include "trainer/learner/options.h"
#include "trainer/loss/kl.h"
#include "trainer/loss/registry.h"
#include "trainer/pairs/pair_builder.h"

namespace rollcall {

struct Method {
  AdvantageEstimator advantage;
  Objective objective;
  Aggregation aggregation = Aggregation::kTokenMean;
  PairBuilder pair_builder;
  Correction correction;
  std::optional<KlEstimator> kl;  // with a placement and a coefficient above zero
  KlPlacement kl_placement = KlPlacement::kNone;

  bool over_pairs() const { return objective.pair_loss != nullptr; }
  bool needs_critic() const { return advantage.needs_critic; }
  bool needs_reference() const { return objective.needs_reference || kl.has_value(); }
};

// kInvalidArgument: an unknown name, or parts that do not go together; the message names the keys.
StatusOr<Method> ResolveMethod(const AlgorithmOptions& options);

}  // namespace rollcall
