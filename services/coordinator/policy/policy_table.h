// The policy versions of one job that workers may fetch, and who holds which.
//
//   Offer(v) -> available -> (worker fetches, verifies) -> RecordReceipt(v) -> samples of v
//   accepted WithdrawAll(): the learner group that served the versions is gone
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "rollcall/v1/weights.pb.h"

namespace rollcall::coordinator {

// Not thread-safe. O(log n).
class PolicyTable {
 public:
  // Makes a version available; a version that is offered again replaces the old manifest.
  void Offer(std::shared_ptr<const v1::WeightManifest> manifest);
  void WithdrawAll() { manifests_.clear(); }

  // Newest available version; -1 when there is none.
  int64_t newest() const { return manifests_.empty() ? -1 : manifests_.rbegin()->first; }
  // Newest version that was ever offered or committed; -1 when there is none.
  int64_t newest_known() const { return newest_known_; }
  void SetNewestKnown(int64_t version) { newest_known_ = std::max(newest_known_, version); }

  bool available(int64_t version) const { return manifests_.contains(version); }
  // The version itself, or with `exact` false the newest one that is at least it; null when absent.
  std::shared_ptr<const v1::WeightManifest> Find(int64_t version, bool exact) const;

  // Receipts are kept by the stable name of the process, so that they outlive a registration.
  void RecordReceipt(const std::string& worker_name, int64_t version);
  bool HasReceipt(const std::string& worker_name, int64_t version) const;

 private:
  std::map<int64_t, std::shared_ptr<const v1::WeightManifest>> manifests_;
  std::map<std::string, std::set<int64_t>> receipts_;
  int64_t newest_known_ = -1;
};

}  // namespace rollcall::coordinator
