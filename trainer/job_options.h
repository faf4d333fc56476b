// JobSpec -> what the learner is told, in plain types.
#pragma once

#include "rollcall/v1/learner.pb.h"
#include "services/base/status/status.h"
#include "services/weight_sync/weight_store.h"
#include "trainer/learner/options.h"

namespace rollcall {

// The spec is resolved: every factor and default is set. Log-probabilities are taken at the
// sampling temperature; data set rows and greedy sampling have none, they are taken at 1.
LearnerOptions LearnerOptionsFromAssignment(const v1::Assignment& assignment);

TransportChoice TransportFromSpec(const v1::JobSpec& spec);

}  // namespace rollcall
