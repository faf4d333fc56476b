// Collectives of one learner group. One back-end per file; the fake runs ranks as threads.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "services/base/status/status.h"
#include "services/model/tensor.h"

namespace rollcall {

// One rank's handle. All ranks issue the same calls in the same order, from one thread. Every call
// has the deadline of the options; a peer that is gone or late gives kUnavailable or
// kDeadlineExceeded, after which the communicator is broken: destroy it and form a new group.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  // Sum over ranks, in place, float32 or float64, contiguous. The order of summation is rank 0,
  // 1, ..., whatever arrives first (gathered, then added in rank order). kInvalidArgument for
  // another tensor, as for a root that is no rank; the communicator stays usable.
  virtual Status AllReduceSum(at::Tensor& tensor) = 0;
  virtual Status Broadcast(at::Tensor& tensor, int root) = 0;
  virtual Status Barrier() = 0;
  // Makes pending and later calls fail soon where the back-end can; otherwise their deadline does.
  // The destructor does not wait for them then. Thread-safe.
  virtual void Abort() {}
};

// Rendezvous of a group: a key-value store that all ranks see. Thread-safe.
struct RendezvousStore {
  std::function<Status(const std::string& key, const std::string& value)> set;
  // Waits up to the given time; kDeadlineExceeded when the key did not appear.
  std::function<StatusOr<std::string>(const std::string& key, absl::Duration wait)> get;
  std::function<StatusOr<int64_t>(const std::string& key, int64_t amount)> add;
};

struct CommunicatorOptions {
  int rank = 0;
  int world_size = 1;
  absl::Duration timeout = absl::Seconds(30);   // of one collective
  std::string interface_address = "127.0.0.1";  // address that the peers reach this rank at
};

// LibTorch's own ProcessGroupGloo over TCP; world_size 1 needs no network. The process must ignore
// SIGPIPE, which a peer that closes its connections raises.
StatusOr<std::unique_ptr<Communicator>> MakeGlooCommunicator(const CommunicatorOptions& options,
                                                             RendezvousStore store);

}  // namespace rollcall
