// Work that processes hold until a deadline. Expiry, death and leaving give it back.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "services/coordinator/types.h"

namespace rollcall::coordinator {

struct Lease {
  uint64_t number = 0;
  std::string worker_id;
  absl::Time issued;
  absl::Time deadline;
  // Samples of the lease that are not answered yet; all of one prompt.
  std::vector<SampleId> samples;
};

// Not thread-safe. One table holds one kind of lease. O(log n).
class LeaseTable {
 public:
  // Numbers start after `first`, so that ids of an earlier coordinator name no lease of this one.
  explicit LeaseTable(uint64_t first = 0) : next_(first + 1) {}

  const Lease& Issue(const std::string& worker_id, std::vector<SampleId> samples, absl::Time now,
                     absl::Duration timeout);
  const Lease* Find(uint64_t number) const;
  // A sample is answered; the lease ends with its last one. Harmless when unknown.
  void Settle(uint64_t number, const SampleId& sample);

  // Takes out the leases that are over at `now`, in order of deadline.
  std::vector<Lease> TakeExpired(absl::Time now);
  std::vector<Lease> TakeOfWorker(const std::string& worker_id);
  std::vector<Lease> TakeOfJob(JobNumber job);

  // Moves every deadline.
  void Extend(absl::Duration by);

  size_t size() const { return leases_.size(); }
  // Number of the lease that Issue will make next.
  uint64_t next_number() const { return next_; }
  std::set<JobNumber> JobsOfWorker(const std::string& worker_id) const;
  size_t CountOfWorker(const std::string& worker_id) const;
  // Number of workers that hold at least one lease.
  size_t num_holders() const { return by_worker_.size(); }

 private:
  Lease Take(uint64_t number);

  uint64_t next_;
  std::unordered_map<uint64_t, Lease> leases_;
  std::set<std::pair<absl::Time, uint64_t>> by_deadline_;
  std::map<std::string, std::set<uint64_t>> by_worker_;
};

// "l42" and back; 0 when the text is no lease id.
std::string LeaseId(uint64_t number);
uint64_t ParseLeaseId(const std::string& id);

}  // namespace rollcall::coordinator
