// One WatchJob stream: steps from the journal first, then live events, in order and without gaps.
//
//   replaying --page was the last--> live --terminal status--> finished
#pragma once

#include <deque>
#include <memory>

#include <grpcpp/grpcpp.h>

#include "absl/base/thread_annotations.h"
#include "rollcall/v1/coordinator.pb.h"
#include "services/base/sync/mutex.h"
#include "services/coordinator/coordinator.h"

namespace rollcall::coordinator {

// Starts the stream; the reactor deletes itself when gRPC is done with it.
grpc::ServerWriteReactor<v1::JobEvent>* StartWatch(Coordinator& coordinator,
                                                   const v1::WatchJobRequest& request);

}  // namespace rollcall::coordinator
