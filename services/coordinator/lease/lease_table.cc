#include "services/coordinator/lease/lease_table.h"

#include <algorithm>
#include <charconv>

namespace rollcall::coordinator {

const Lease& LeaseTable::Issue(const std::string& worker_id, std::vector<SampleId> samples,
                               absl::Time now, absl::Duration timeout) {
  const uint64_t number = next_++;
  Lease& lease = leases_[number];
  lease = {number, worker_id, now, now + timeout, std::move(samples)};
  by_deadline_.emplace(lease.deadline, number);
  by_worker_[worker_id].insert(number);
  return lease;
}

const Lease* LeaseTable::Find(uint64_t number) const {
  const auto found = leases_.find(number);
  return found == leases_.end() ? nullptr : &found->second;
}

void LeaseTable::Settle(uint64_t number, const SampleId& sample) {
  const auto found = leases_.find(number);
  if (found == leases_.end()) return;
  std::erase(found->second.samples, sample);
  if (found->second.samples.empty()) Take(number);
}

Lease LeaseTable::Take(uint64_t number) {
  auto node = leases_.extract(number);
  Lease lease = std::move(node.mapped());
  by_deadline_.erase({lease.deadline, number});
  const auto worker = by_worker_.find(lease.worker_id);
  worker->second.erase(number);
  if (worker->second.empty()) by_worker_.erase(worker);
  return lease;
}

std::vector<Lease> LeaseTable::TakeExpired(absl::Time now) {
  std::vector<Lease> expired;
  while (!by_deadline_.empty() && by_deadline_.begin()->first <= now) {
    expired.push_back(Take(by_deadline_.begin()->second));
  }
  return expired;
}

std::vector<Lease> LeaseTable::TakeOfWorker(const std::string& worker_id) {
  std::vector<Lease> taken;
  const auto worker = by_worker_.find(worker_id);
  if (worker == by_worker_.end()) return taken;
  const std::set<uint64_t> numbers = worker->second;
  for (const uint64_t number : numbers) taken.push_back(Take(number));
  return taken;
}

std::vector<Lease> LeaseTable::TakeOfJob(JobNumber job) {
  std::vector<uint64_t> numbers;
  for (const auto& [number, lease] : leases_) {
    if (lease.samples.front().job == job) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  std::vector<Lease> taken;
  taken.reserve(numbers.size());
  for (const uint64_t number : numbers) taken.push_back(Take(number));
  return taken;
}

void LeaseTable::Extend(absl::Duration by) {
  by_deadline_.clear();
  for (auto& [number, lease] : leases_) {
    lease.deadline += by;
    by_deadline_.emplace(lease.deadline, number);
  }
}

std::set<JobNumber> LeaseTable::JobsOfWorker(const std::string& worker_id) const {
  std::set<JobNumber> jobs;
  const auto worker = by_worker_.find(worker_id);
  if (worker == by_worker_.end()) return jobs;
  for (const uint64_t number : worker->second) {
    jobs.insert(leases_.at(number).samples.front().job);
  }
  return jobs;
}

size_t LeaseTable::CountOfWorker(const std::string& worker_id) const {
  const auto worker = by_worker_.find(worker_id);
  return worker == by_worker_.end() ? 0 : worker->second.size();
}

std::string LeaseId(uint64_t number) { return "l" + std::to_string(number); }

uint64_t ParseLeaseId(const std::string& id) {
  if (id.size() < 2 || id[0] != 'l') return 0;
  uint64_t number = 0;
  const char* end = id.data() + id.size();
  const auto [rest, error] = std::from_chars(id.data() + 1, end, number);
  return error == std::errc() && rest == end ? number : 0;
}

}  // namespace rollcall::coordinator
