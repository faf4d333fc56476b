// What a published policy version is, in plain types.
//
//   learner: Snapshot bytes -> hash -> publish to every transport -> offer manifest
//   worker:  see manifest -> fetch -> verify every tensor's hash -> receipt -> sample
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "services/common/storage/files.h"

namespace rollcall {

struct ManifestTensor {
  TensorLayout layout;
  Hash128 hash{};
};

struct WeightSourceInfo {
  enum class Kind { kSharedMemory, kGrpc };
  Kind kind = Kind::kGrpc;
  std::string name;     // shared memory object
  std::string host_id;  // boot id of the host that has it
  std::string address;  // host:port of a WeightService
};

struct Manifest {
  std::string job_id;
  int64_t policy_version = 0;
  int64_t epoch = 0;
  uint64_t total_bytes = 0;
  std::vector<ManifestTensor> tensors;
  std::vector<WeightSourceInfo> sources;
  Hash128 hash{};
};

// Hashes every tensor of the snapshot. kInvalidArgument when the layout does not fit the bytes.
StatusOr<Manifest> BuildManifest(const std::string& job_id, int64_t policy_version, int64_t epoch,
                                 const std::vector<TensorLayout>& layout,
                                 std::span<const std::byte> snapshot);

// kInvalidArgument unless names, shapes, sizes, offsets and hashes fit together: no tensor overlaps
// another or ends beyond total_bytes. Bytes between tensors are allowed and belong to nobody.
Status CheckManifest(const Manifest& manifest);

// kDataLoss names the first tensor whose bytes do not match. The manifest is one that
// CheckManifest accepts.
Status VerifySnapshot(const Manifest& manifest, std::span<const std::byte> snapshot);

// An immutable flat copy of one version's weights.
using SnapshotBytes = std::shared_ptr<const std::vector<std::byte>>;

}  // namespace rollcall
