#include "services/coordinator/lease/lease_table.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall::coordinator {
namespace {

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

SampleId Id(int64_t prompt, int32_t index, JobNumber job = 1) {
  return {job, v1::SAMPLE_PURPOSE_TRAIN, 0, prompt, index};
}

std::vector<uint64_t> Numbers(const std::vector<Lease>& leases) {
  std::vector<uint64_t> numbers;
  for (const Lease& lease : leases) numbers.push_back(lease.number);
  return numbers;
}

TEST_CASE("LeaseTable: a lease is over at its deadline, not before", "[unit][coordinator]") {
  LeaseTable table;
  const Lease& lease = table.Issue("w1", {Id(1, 0)}, kStart, absl::Seconds(30));
  CHECK(lease.deadline == kStart + absl::Seconds(30));
  CHECK(table.TakeExpired(kStart + absl::Seconds(30) - absl::Nanoseconds(1)).empty());
  const std::vector<Lease> expired = table.TakeExpired(kStart + absl::Seconds(30));
  REQUIRE(expired.size() == 1);
  CHECK(expired[0].worker_id == "w1");
  CHECK(expired[0].samples == std::vector<SampleId>{Id(1, 0)});
  CHECK(table.size() == 0);
  CHECK(table.TakeExpired(absl::InfiniteFuture()).empty());
}

TEST_CASE("LeaseTable: leases expire in order of deadline, then of issue", "[unit][coordinator]") {
  LeaseTable table;
  table.Issue("w1", {Id(1, 0)}, kStart, absl::Seconds(30));
  table.Issue("w1", {Id(2, 0)}, kStart, absl::Seconds(10));
  table.Issue("w2", {Id(3, 0)}, kStart, absl::Seconds(20));
  table.Issue("w2", {Id(4, 0)}, kStart, absl::Seconds(10));
  CHECK(Numbers(table.TakeExpired(kStart + absl::Seconds(25))) == std::vector<uint64_t>{2, 4, 3});
  CHECK(table.size() == 1);
}

TEST_CASE("LeaseTable: a lease ends with its last sample; a second return is harmless",
          "[unit][coordinator]") {
  LeaseTable table;
  const uint64_t number = table.Issue("w1", {Id(1, 0), Id(1, 1)}, kStart, absl::Seconds(30)).number;
  table.Settle(number, Id(1, 0));
  table.Settle(number, Id(1, 0));  // again
  table.Settle(number, Id(1, 7));  // never part of it
  REQUIRE(table.Find(number) != nullptr);
  CHECK(table.Find(number)->samples == std::vector<SampleId>{Id(1, 1)});
  table.Settle(number, Id(1, 1));
  CHECK(table.Find(number) == nullptr);
  CHECK(table.num_holders() == 0);
  table.Settle(number, Id(1, 1));
  table.Settle(99, Id(1, 1));
  CHECK(table.TakeExpired(absl::InfiniteFuture()).empty());
}

TEST_CASE("LeaseTable: what a worker or a job holds is taken at once", "[unit][coordinator]") {
  LeaseTable table;
  table.Issue("w1", {Id(1, 0, 1)}, kStart, absl::Seconds(30));
  table.Issue("w1", {Id(1, 0, 2)}, kStart, absl::Seconds(30));
  table.Issue("w2", {Id(2, 0, 2)}, kStart, absl::Seconds(30));
  CHECK(table.JobsOfWorker("w1") == std::set<JobNumber>{1, 2});
  CHECK(table.JobsOfWorker("w3").empty());
  CHECK(table.num_holders() == 2);
  CHECK(Numbers(table.TakeOfJob(2)) == std::vector<uint64_t>{2, 3});
  CHECK(table.CountOfWorker("w1") == 1);
  CHECK(table.CountOfWorker("w2") == 0);
  CHECK(Numbers(table.TakeOfWorker("w1")) == std::vector<uint64_t>{1});
  CHECK(table.TakeOfWorker("w1").empty());
  CHECK(table.num_holders() == 0);
}

TEST_CASE("LeaseTable: every deadline moves by what the coordinator slept", "[unit][coordinator]") {
  LeaseTable table;
  table.Issue("w1", {Id(1, 0)}, kStart, absl::Seconds(10));
  table.Issue("w1", {Id(2, 0)}, kStart, absl::Seconds(20));
  table.Extend(absl::Seconds(100));
  CHECK(table.TakeExpired(kStart + absl::Seconds(109)).empty());
  CHECK(Numbers(table.TakeExpired(kStart + absl::Seconds(110))) == std::vector<uint64_t>{1});
  CHECK(Numbers(table.TakeExpired(kStart + absl::Seconds(120))) == std::vector<uint64_t>{2});
}

TEST_CASE("LeaseTable: numbers of an earlier coordinator name no lease", "[unit][coordinator]") {
  LeaseTable before(uint64_t{1} << 40);
  LeaseTable after(uint64_t{2} << 40);
  const uint64_t old = before.Issue("w1", {Id(1, 0)}, kStart, absl::Seconds(30)).number;
  CHECK(after.next_number() == (uint64_t{2} << 40) + 1);
  after.Issue("w1", {Id(1, 0)}, kStart, absl::Seconds(30));
  CHECK(after.Find(old) == nullptr);
  after.Settle(old, Id(1, 0));
  CHECK(after.size() == 1);
}

TEST_CASE("LeaseTable: random schedules agree with a list of leases", "[unit][coordinator]") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    CounterRandom random(seed);
    LeaseTable table;
    std::map<uint64_t, Lease> model;
    absl::Time now = kStart;
    const auto model_expired = [&] {
      std::vector<const Lease*> over;
      for (const auto& [number, lease] : model) {
        if (lease.deadline <= now) over.push_back(&lease);
      }
      std::stable_sort(over.begin(), over.end(),
                       [](const Lease* a, const Lease* b) { return a->deadline < b->deadline; });
      std::vector<uint64_t> numbers;
      for (const Lease* lease : over) numbers.push_back(lease->number);
      return numbers;
    };
    for (int step = 0; step < 300; ++step) {
      const std::string worker = "w" + std::to_string(random.Below(4));
      std::vector<uint64_t> taken;
      switch (random.Below(8)) {
        case 0:
        case 1:
        case 2: {
          std::vector<SampleId> samples;
          const auto prompt = static_cast<int64_t>(random.Below(5));
          const auto job = static_cast<JobNumber>(1 + random.Below(3));
          for (uint64_t i = 0; i <= random.Below(3); ++i) {
            samples.push_back(Id(prompt, static_cast<int32_t>(i), job));
          }
          const Lease& lease =
              table.Issue(worker, samples, now,
                          absl::Milliseconds(static_cast<int64_t>(1 + random.Below(500))));
          model[lease.number] = lease;
          break;
        }
        case 3:
        case 4: {
          const uint64_t number = 1 + random.Below(table.next_number());
          const auto found = model.find(number);
          const SampleId id =
              found == model.end() || random.Below(4) == 0
                  ? Id(0, 9)
                  : found->second.samples[random.Below(found->second.samples.size())];
          table.Settle(number, id);
          if (found != model.end()) {
            std::erase(found->second.samples, id);
            if (found->second.samples.empty()) model.erase(found);
          }
          break;
        }
        case 5: {
          now += absl::Milliseconds(static_cast<int64_t>(random.Below(300)));
          const std::vector<uint64_t> expected = model_expired();
          taken = Numbers(table.TakeExpired(now));
          REQUIRE(taken == expected);
          break;
        }
        case 6:
          taken = Numbers(random.Below(2) == 0
                              ? table.TakeOfWorker(worker)
                              : table.TakeOfJob(1 + static_cast<JobNumber>(random.Below(3))));
          REQUIRE(std::is_sorted(taken.begin(), taken.end()));
          break;
        default:
          table.Extend(absl::Milliseconds(20));
          for (auto& [number, lease] : model) lease.deadline += absl::Milliseconds(20);
      }
      for (const uint64_t number : taken) REQUIRE(model.erase(number) == 1);
      REQUIRE(table.size() == model.size());
      std::map<std::string, size_t> held;
      for (const auto& [number, lease] : model) {
        ++held[lease.worker_id];
        REQUIRE(table.Find(number) != nullptr);
        REQUIRE(table.Find(number)->samples == lease.samples);
        REQUIRE(table.Find(number)->deadline == lease.deadline);
      }
      REQUIRE(table.num_holders() == held.size());
      for (const auto& [name, count] : held) REQUIRE(table.CountOfWorker(name) == count);
    }
    now = absl::InfiniteFuture();
    REQUIRE(Numbers(table.TakeExpired(now)) == model_expired());
  }
}

TEST_CASE("LeaseId: comes back as its number; other text is none", "[unit][coordinator]") {
  CHECK(LeaseId(42) == "l42");
  CHECK(ParseLeaseId("l42") == 42);
  CHECK(ParseLeaseId(LeaseId(UINT64_MAX)) == UINT64_MAX);
  for (const char* text : {"", "l", "42", "l-1", "l+1", "l1x", "l 1", "l18446744073709551616"}) {
    INFO(text);
    CHECK(ParseLeaseId(text) == 0);
  }
}

}  // namespace
}  // namespace rollcall::coordinator
