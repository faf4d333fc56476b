// Ranks as threads of one process, for tests of the learner.
#pragma once

#include <functional>
#include <memory>

#include "services/model/parallel/communicator.h"

namespace rollcall::testing {

// A group of one.
std::unique_ptr<Communicator> MakeLoneCommunicator();

// Runs fn(communicator of rank r) on a thread per rank and joins them. Sums are added in rank
// order. A rank that returns early makes the others' calls fail with kUnavailable. Checks of Catch
// belong on the caller's thread.
void RunRanks(int world_size, const std::function<void(std::unique_ptr<Communicator>)>& fn);

}  // namespace rollcall::testing
