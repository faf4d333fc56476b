// The learners that train one job together.
//
//   waiting --Form--> active(epoch e) --Fence--> waiting, and calls of epoch e are refused
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rollcall/v1/learner.pb.h"
#include "services/base/status/status.h"

namespace rollcall::coordinator {

struct GroupRank {
  std::string worker_id;
  std::string name;
  // It made a call in this epoch, so it did receive its assignment.
  bool heard = false;
  // It has nothing more to do here; it may serve another job before the others are done.
  bool finished = false;
};

// Not thread-safe.
class LearnerGroup {
 public:
  // Starts a new epoch; ranks in the given order. Commits go on after `resume_step`.
  void Form(std::vector<GroupRank> ranks, int64_t resume_step);
  // Ends the epoch; the reason is told to everybody who still calls in it.
  void Fence(const std::string& reason);
  // Continues the numbering of an earlier incarnation.
  void SetEpoch(int64_t epoch) { epoch_ = epoch; }

  // kAborted ("fenced: ...") unless the caller is this rank of the running epoch.
  Status Check(const v1::GroupMember& member);
  // Rank of a worker in the running epoch, unless it finished.
  std::optional<int32_t> RankOf(const std::string& worker_id) const;

  bool active() const { return !ranks_.empty(); }
  // Why the last epoch ended; empty while one runs.
  const std::string& fence_reason() const { return fence_reason_; }
  int64_t epoch() const { return epoch_; }
  int64_t resume_step() const { return resume_step_; }
  // Last step that was committed, or committed again, in this epoch.
  int64_t last_step() const { return last_step_; }
  void SetLastStep(int64_t step) { last_step_ = step; }
  const std::vector<GroupRank>& ranks() const { return ranks_; }
  GroupRank& rank(int32_t index) { return ranks_[static_cast<size_t>(index)]; }

  // The rendezvous store of the epoch. kInvalidArgument on a key or value that is too long,
  // kResourceExhausted when the store is full, kInvalidArgument when Add meets a value that is no
  // number (decimal text, as the collective library writes it).
  Status StoreSet(const std::string& key, std::string value);
  const std::string* StoreGet(const std::string& key) const;
  StatusOr<int64_t> StoreAdd(const std::string& key, int64_t amount);

 private:
  int64_t epoch_ = 0;
  int64_t resume_step_ = 0;
  int64_t last_step_ = 0;
  std::string fence_reason_ = "the group has not formed";
  std::vector<GroupRank> ranks_;
  std::map<std::string, std::string> store_;
  size_t store_bytes_ = 0;
};

}  // namespace rollcall::coordinator
