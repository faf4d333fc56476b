// JobSpec -> what the learner is told, in plain types.
#pragma once

#include "rollcall/v1/learner.pb.h"
#include "services/base/status/status.h"
#include "services/weight_sync/weight_store.h"
#include "trainer/learner/options.h"

namespace rollcall {

// The spec is resolved: every factor and default is set. Log-probabilities are taken under the
// sampling law; data set rows and greedy sampling have none, they are taken at temperature 1.
// kInvalidArgument: the law of the spec cannot be read.
StatusOr<LearnerOptions> LearnerOptionsFromAssignment(const v1::Assignment& assignment);

TransportChoice TransportFromSpec(const v1::JobSpec& spec);

}  // namespace rollcall
