// A learner whose ranks are processes that talk over Gloo.

#include "services/model/parallel/communicator.h"
#include "trainer/learner/learner.h"

namespace rollcall {

StatusOr<std::unique_ptr<Learner>> MakeLearner(const LearnerOptions& options,
                                               const GroupOptions& group, const Clock& clock,
                                               LearnerEvents events) {
  const auto make_communicator = [&group]() -> StatusOr<std::unique_ptr<Communicator>> {
    return MakeGlooCommunicator({.rank = group.rank,
                                 .world_size = group.world_size,
                                 .timeout = group.collective_timeout,
                                 .interface_address = group.interface_address},
                                {group.store_set, group.store_get, group.store_add});
  };
  return MakeLearner(options, make_communicator, clock, std::move(events));
}

}  // namespace rollcall
