// Batch of the coordinator -> TrainBatch.
#pragma once

#include "rollcall/v1/learner.pb.h"
#include "services/base/status/status.h"
#include "trainer/batch/types.h"

namespace rollcall {

// POLICY and DATASET tokens train, OBSERVATION tokens do not. kInvalidArgument names prompt and
// sample: a policy segment without one log-probability per token, a trajectory that mixes sampled
// and data set tokens, a segment of unknown kind.
StatusOr<TrainBatch> BatchFromProto(const v1::Batch& proto);

}  // namespace rollcall
