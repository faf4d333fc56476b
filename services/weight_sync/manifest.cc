#include "services/weight_sync/manifest.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string_view>

namespace rollcall {
namespace {

// Bounds of what is believed about a peer's model; the largest published models are far below.
constexpr size_t kMaxTensors = 1 << 20;
constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxDimensions = 16;

// "model.norm.weight" with its extent checked against itself and the snapshot.
Status CheckTensor(const TensorLayout& tensor, uint64_t total_bytes) {
  const std::string where = "tensor '" + tensor.name.substr(0, kMaxNameBytes) + "'";
  if (tensor.name.empty()) return InvalidArgument("a tensor has no name");
  if (tensor.name.size() > kMaxNameBytes) {
    return InvalidArgument(where + ": the name is longer than " + std::to_string(kMaxNameBytes) +
                           " bytes");
  }
  if (tensor.shape.size() > kMaxDimensions) {
    return InvalidArgument(where + " has " + std::to_string(tensor.shape.size()) +
                           " dimensions; at most " + std::to_string(kMaxDimensions) +
                           " are allowed");
  }
  const StatusOr<int64_t> elements = NumElements(tensor.shape);
  if (!elements.ok()) return Annotate(elements.status(), where);
  const uint64_t element_bytes = DTypeSize(tensor.dtype);
  if (static_cast<uint64_t>(*elements) > std::numeric_limits<uint64_t>::max() / element_bytes ||
      static_cast<uint64_t>(*elements) * element_bytes != tensor.size_bytes) {
    return InvalidArgument(where + " claims " + std::to_string(tensor.size_bytes) +
                           " bytes, but its shape has " + std::to_string(*elements) +
                           " elements of " + std::string(DTypeName(tensor.dtype)));
  }
  if (tensor.offset_bytes > total_bytes || tensor.size_bytes > total_bytes - tensor.offset_bytes) {
    return InvalidArgument(
        where + " ends beyond the snapshot: offset " + std::to_string(tensor.offset_bytes) +
        " plus " + std::to_string(tensor.size_bytes) + " bytes of " + std::to_string(total_bytes));
  }
  return OkStatus();
}

Status CheckTensors(const std::vector<const TensorLayout*>& tensors, uint64_t total_bytes) {
  if (tensors.empty()) return InvalidArgument("a snapshot without tensors");
  if (tensors.size() > kMaxTensors) {
    return InvalidArgument(std::to_string(tensors.size()) + " tensors; at most " +
                           std::to_string(kMaxTensors) + " are allowed");
  }
  std::set<std::string_view> names;
  for (const TensorLayout* tensor : tensors) {
    ROLLCALL_RETURN_IF_ERROR(CheckTensor(*tensor, total_bytes));
    if (!names.insert(tensor->name).second) {
      return InvalidArgument("tensor '" + tensor->name + "' appears twice");
    }
  }
  std::vector<const TensorLayout*> by_offset = tensors;
  std::erase_if(by_offset, [](const TensorLayout* tensor) { return tensor->size_bytes == 0; });
  std::sort(by_offset.begin(), by_offset.end(), [](const TensorLayout* a, const TensorLayout* b) {
    return a->offset_bytes < b->offset_bytes;
  });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const TensorLayout& before = *by_offset[i - 1];
    if (before.offset_bytes + before.size_bytes > by_offset[i]->offset_bytes) {
      return InvalidArgument("tensors '" + before.name + "' and '" + by_offset[i]->name +
                             "' overlap");
    }
  }
  return OkStatus();
}

// The name of the weights: XXH3-128 over the tensors' hashes in order.
Hash128 CombineHashes(const std::vector<ManifestTensor>& tensors) {
  std::vector<uint8_t> all;
  all.reserve(tensors.size() * sizeof(Hash128));
  for (const ManifestTensor& tensor : tensors) {
    all.insert(all.end(), tensor.hash.begin(), tensor.hash.end());
  }
  return HashBytes128(std::as_bytes(std::span(all)));
}

std::span<const std::byte> BytesOf(const TensorLayout& tensor,
                                   std::span<const std::byte> snapshot) {
  return snapshot.subspan(tensor.offset_bytes, tensor.size_bytes);
}

}  // namespace

Status CheckManifest(const Manifest& manifest) {
  if (manifest.job_id.empty()) return InvalidArgument("the manifest names no job");
  if (manifest.policy_version < 0) {
    return InvalidArgument("policy version " + std::to_string(manifest.policy_version) +
                           " is negative");
  }
  std::vector<const TensorLayout*> tensors;
  tensors.reserve(manifest.tensors.size());
  for (const ManifestTensor& tensor : manifest.tensors) tensors.push_back(&tensor.layout);
  ROLLCALL_RETURN_IF_ERROR(CheckTensors(tensors, manifest.total_bytes));
  if (CombineHashes(manifest.tensors) != manifest.hash) {
    return InvalidArgument("the manifest's hash " + HexString(manifest.hash) +
                           " is not that of its tensors' hashes");
  }
  return OkStatus();
}

StatusOr<Manifest> BuildManifest(const std::string& job_id, int64_t policy_version, int64_t epoch,
                                 const std::vector<TensorLayout>& layout,
                                 std::span<const std::byte> snapshot) {
  Manifest manifest{.job_id = job_id,
                    .policy_version = policy_version,
                    .epoch = epoch,
                    .total_bytes = snapshot.size(),
                    .tensors = {},
                    .sources = {},
                    .hash = {}};
  std::vector<const TensorLayout*> tensors;
  tensors.reserve(layout.size());
  for (const TensorLayout& tensor : layout) tensors.push_back(&tensor);
  ROLLCALL_RETURN_IF_ERROR(CheckTensors(tensors, snapshot.size()));
  manifest.tensors.reserve(layout.size());
  for (const TensorLayout& tensor : layout) {
    manifest.tensors.push_back({tensor, HashBytes128(BytesOf(tensor, snapshot))});
  }
  manifest.hash = CombineHashes(manifest.tensors);
  ROLLCALL_RETURN_IF_ERROR(CheckManifest(manifest));
  return manifest;
}

Status VerifySnapshot(const Manifest& manifest, std::span<const std::byte> snapshot) {
  if (snapshot.size() != manifest.total_bytes) {
    return DataLoss("the snapshot of version " + std::to_string(manifest.policy_version) + " has " +
                    std::to_string(snapshot.size()) + " bytes; the manifest says " +
                    std::to_string(manifest.total_bytes));
  }
  for (const ManifestTensor& tensor : manifest.tensors) {
    const Hash128 hash = HashBytes128(BytesOf(tensor.layout, snapshot));
    if (hash == tensor.hash) continue;
    return DataLoss("tensor '" + tensor.layout.name + "' of version " +
                    std::to_string(manifest.policy_version) + " has wrong bytes: hash " +
                    HexString(hash) + ", the manifest says " + HexString(tensor.hash));
  }
  return OkStatus();
}

}  // namespace rollcall
