#include "services/coordinator/policy/policy_table.h"

#include <utility>

namespace rollcall::coordinator {
namespace {

// A worker is sent to the newest version, or to the one that evaluation and the synchronous
// iteration still need, which is the newest as well; the rest only bridges a race.
constexpr size_t kVersionsKept = 4;
constexpr size_t kReceiptsKept = 2048;

}  // namespace

void PolicyTable::Offer(std::shared_ptr<const v1::WeightManifest> manifest) {
  const int64_t version = manifest->policy_version();
  SetNewestKnown(version);
  manifests_[version] = std::move(manifest);
  while (manifests_.size() > kVersionsKept) manifests_.erase(manifests_.begin());
}

std::shared_ptr<const v1::WeightManifest> PolicyTable::Find(int64_t version, bool exact) const {
  if (exact) {
    const auto found = manifests_.find(version);
    return found == manifests_.end() ? nullptr : found->second;
  }
  if (manifests_.empty() || manifests_.rbegin()->first < version) return nullptr;
  return manifests_.rbegin()->second;
}

void PolicyTable::RecordReceipt(const std::string& worker_name, int64_t version) {
  std::set<int64_t>& versions = receipts_[worker_name];
  versions.insert(version);
  while (versions.size() > kReceiptsKept) versions.erase(versions.begin());
}

bool PolicyTable::HasReceipt(const std::string& worker_name, int64_t version) const {
  const auto found = receipts_.find(worker_name);
  return found != receipts_.end() && found->second.contains(version);
}

}  // namespace rollcall::coordinator
