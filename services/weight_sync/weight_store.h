// The learner's side: holds the last versions and serves them over every transport.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "services/base/log/log.h"
#include "services/base/status/status.h"
#include "services/weight_sync/manifest.h"

namespace grpc {
class Service;
}

namespace rollcall {

enum class TransportChoice { kAuto, kSharedMemory, kGrpc };

// Thread-safe.
class WeightStore {
 public:
  virtual ~WeightStore() = default;
  // The WeightService to register with this process's server.
  virtual grpc::Service* service() = 0;
  // Where that server listens; call before the first Publish.
  virtual void set_address(const std::string& address) = 0;
  // Hashes the snapshot, makes it available (shared memory when chosen and possible, gRPC always)
  // and returns the manifest to offer. A version published again replaces the old one. Keeps the
  // last `keep_versions` publications of each job. kInvalidArgument: the layout does not fit the
  // snapshot; kFailedPrecondition: set_address was not called.
  virtual StatusOr<Manifest> Publish(const std::string& job_id, int64_t policy_version,
                                     int64_t epoch, const std::vector<TensorLayout>& layout,
                                     std::vector<std::byte> snapshot, TransportChoice transport,
                                     int keep_versions) = 0;
  // Drops all versions of the job and its shared memory objects.
  virtual void DropJob(const std::string& job_id) = 0;
};

std::unique_ptr<WeightStore> MakeWeightStore(Logger& logger);

// Removes shared memory objects of rollcall whose owner process does not exist any more. For the
// start of a process, before its first Publish.
void RemoveStaleSharedMemory();

}  // namespace rollcall
