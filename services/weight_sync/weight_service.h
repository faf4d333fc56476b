// WeightService: streams a held snapshot in chunks of one MiB from any offset.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "rollcall/v1/weights.grpc.pb.h"
#include "services/base/status/status.h"
#include "services/weight_sync/manifest.h"

namespace rollcall {

// Bound of WeightChunk.data.
inline constexpr size_t kMaxChunkBytes = 1 << 20;

struct HeldSnapshot {
  Hash128 hash{};
  SnapshotBytes bytes;
};

// Thread-safe. Streams that run share their snapshot: it may be dropped meanwhile. At most 64
// streams at once; one more is RESOURCE_EXHAUSTED, try again.
class WeightServiceImpl final : public v1::WeightService::CallbackService {
 public:
  // Finds a version; kNotFound when it is not held.
  using Lookup =
      std::function<StatusOr<HeldSnapshot>(const std::string& job_id, int64_t policy_version)>;
  explicit WeightServiceImpl(Lookup lookup) : lookup_(std::move(lookup)) {}

  grpc::ServerWriteReactor<v1::WeightChunk>* FetchWeights(
      grpc::CallbackServerContext* context, const v1::FetchWeightsRequest* request) override;

 private:
  StatusOr<HeldSnapshot> Find(const v1::FetchWeightsRequest& request) const;

  const Lookup lookup_;
  // Shared with the streams, which may end after this object.
  const std::shared_ptr<std::atomic<int>> num_streams_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace rollcall
