// Ranks are threads of one process that meet over loopback.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/ops/zeros.h>

#include "absl/time/clock.h"
#include "services/base/runtime/random.h"
#include "services/base/sync/mutex.h"
#include "services/model/parallel/communicator.h"
#include "tests/support/catch_torch.h"

namespace rollcall {
namespace {

// As every daemon does; gloo writes to connections that the peer has closed.
[[maybe_unused]] const auto kPreviousHandler = std::signal(SIGPIPE, SIG_IGN);

using CommunicatorPtr = std::unique_ptr<Communicator>;

// Of collectives that are meant to work; none should come near it.
constexpr absl::Duration kLong = absl::Seconds(60);
// Of those that are meant to fail.
constexpr absl::Duration kShort = absl::Milliseconds(1500);
// What a failure may take beyond its deadline on a busy machine.
constexpr absl::Duration kSlack = absl::Seconds(10);

// The rendezvous that the coordinator offers, in memory.
struct Store {
  Mutex mu;
  CondVar changed;
  std::map<std::string, std::string> values ABSL_GUARDED_BY(mu);

  RendezvousStore Callbacks() {
    return {.set = [this](const std::string& key, const std::string& value) -> Status {
              MutexLock lock(mu);
              values[key] = value;
              changed.NotifyAll();
              return OkStatus();
            },
            .get = [this](const std::string& key, absl::Duration wait) -> StatusOr<std::string> {
              const absl::Time deadline = absl::Now() + wait;
              MutexLock lock(mu);
              while (!values.contains(key)) {
                const absl::Duration left = deadline - absl::Now();
                if (left <= absl::ZeroDuration()) return DeadlineExceeded("no " + key);
                (void)changed.WaitFor(mu, left);
              }
              return values[key];
            },
            .add = [this](const std::string& key, int64_t amount) -> StatusOr<int64_t> {
              MutexLock lock(mu);
              const int64_t sum = (values.contains(key) ? std::stoll(values[key]) : 0) + amount;
              values[key] = std::to_string(sum);
              changed.NotifyAll();
              return sum;
            }};
  }
};

StatusOr<CommunicatorPtr> Join(Store& store, int rank, int world_size, absl::Duration timeout) {
  return MakeGlooCommunicator({.rank = rank, .world_size = world_size, .timeout = timeout},
                              store.Callbacks());
}

// Runs fn(rank) on a thread each. Checks of Catch belong on the caller's thread.
void OnThreads(int world_size, const std::function<void(int)>& fn) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size; ++rank) threads.emplace_back(fn, rank);
  for (std::thread& thread : threads) thread.join();
}

std::vector<CommunicatorPtr> FormGroup(int world_size, absl::Duration timeout) {
  Store store;
  std::vector<StatusOr<CommunicatorPtr>> made(static_cast<size_t>(world_size));
  OnThreads(world_size, [&](int r) { made[r] = Join(store, r, world_size, timeout); });
  std::vector<CommunicatorPtr> group;
  for (auto& one : made) {
    REQUIRE_OK(one.status());
    group.push_back(*std::move(one));
  }
  return group;
}

// Runs fn(rank's communicator) on all ranks, which start one after the other in the given order.
std::vector<Status> RunInOrder(const std::vector<CommunicatorPtr>& group,
                               const std::vector<int>& order,
                               const std::function<Status(Communicator&)>& fn) {
  std::vector<Status> statuses(group.size());
  Mutex mu;
  CondVar changed;
  size_t turn = 0;
  OnThreads(static_cast<int>(group.size()), [&](int rank) {
    {
      MutexLock lock(mu);
      while (order[turn] != rank) (void)changed.WaitFor(mu, kLong);
      turn = std::min(turn + 1, order.size() - 1);
      changed.NotifyAll();
    }
    statuses[rank] = fn(*group[rank]);
  });
  return statuses;
}

template <typename T>
at::Tensor TensorOf(const std::vector<T>& values) {
  at::Tensor tensor = at::zeros({static_cast<int64_t>(values.size())},
                                std::is_same_v<T, float> ? at::kFloat : at::kDouble);
  if (!values.empty()) std::memcpy(tensor.mutable_data_ptr<T>(), values.data(), tensor.nbytes());
  return tensor;
}

template <typename T>
bool SameBits(const at::Tensor& tensor, const std::vector<T>& values) {
  return tensor.numel() == static_cast<int64_t>(values.size()) &&
         (values.empty() ||
          std::memcmp(tensor.const_data_ptr<T>(), values.data(), tensor.nbytes()) == 0);
}

// Values of such different size that every other order of summation gives other bits.
template <typename T>
std::vector<T> RankValues(int rank, size_t size) {
  CounterRandom random(static_cast<uint64_t>(rank) + 1);
  std::vector<T> values(size);
  for (T& value : values) {
    value = static_cast<T>(random.Normal() * std::pow(10.0, 8 * random.Uniform()));
  }
  return values;
}

template <typename T>
void CheckAllReduce(const std::vector<CommunicatorPtr>& group, size_t size) {
  const int world_size = static_cast<int>(group.size());
  INFO("ranks " << world_size << " size " << size);
  std::vector<std::vector<T>> inputs;
  for (int rank = 0; rank < world_size; ++rank) inputs.push_back(RankValues<T>(rank, size));
  std::vector<T> want = inputs[0];
  std::vector<T> backwards = inputs.back();
  for (int rank = 1; rank < world_size; ++rank) {
    for (size_t i = 0; i < size; ++i) {
      want[i] += inputs[rank][i];
      backwards[i] += inputs[world_size - 1 - rank][i];
    }
  }
  if (world_size > 2 && size > 10) REQUIRE(want != backwards);
  std::vector<int> order(static_cast<size_t>(world_size));
  std::iota(order.begin(), order.end(), 0);
  const bool is_big = size > 1000;
  do {
    std::vector<at::Tensor> tensors;
    for (const std::vector<T>& input : inputs) tensors.push_back(TensorOf(input));
    const std::vector<Status> statuses = RunInOrder(
        group, order, [&](Communicator& rank) { return rank.AllReduceSum(tensors[rank.rank()]); });
    for (int rank = 0; rank < world_size; ++rank) {
      REQUIRE_OK(statuses[rank]);
      CHECK(SameBits(tensors[rank], want));
    }
  } while (!is_big && std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("GlooCommunicator: sums in rank order, whoever comes first", "[unit][model][torch]") {
  for (int world_size = 1; world_size <= 4; ++world_size) {
    const std::vector<CommunicatorPtr> group = FormGroup(world_size, kLong);
    for (int rank = 0; rank < world_size; ++rank) {
      CHECK(group[rank]->rank() == rank);
      CHECK(group[rank]->world_size() == world_size);
    }
    for (const size_t size : {0, 1, 100}) {
      CheckAllReduce<float>(group, size);
      CheckAllReduce<double>(group, size);
    }
    // More than one slice.
    if (world_size == 3) CheckAllReduce<float>(group, (1 << 20) + 13);
  }
}

TEST_CASE("GlooCommunicator: a tensor of several dimensions is reduced as a whole",
          "[unit][model][torch]") {
  const std::vector<CommunicatorPtr> group = FormGroup(2, kLong);
  std::vector<at::Tensor> tensors = {at::zeros({2, 3, 4}, at::kFloat),
                                     at::zeros({2, 3, 4}, at::kFloat)};
  tensors[0].fill_(1.0);
  tensors[1].fill_(2.0);
  for (const Status& status : RunInOrder(
           group, {1, 0}, [&](Communicator& c) { return c.AllReduceSum(tensors[c.rank()]); })) {
    REQUIRE_OK(status);
  }
  CHECK(SameBits(tensors[0].view({-1}), std::vector<float>(24, 3.0F)));
  CHECK(tensors[1].sizes() == at::IntArrayRef({2, 3, 4}));
}

TEST_CASE("GlooCommunicator: everybody gets the root's tensor", "[unit][model][torch]") {
  for (int world_size = 1; world_size <= 4; ++world_size) {
    const std::vector<CommunicatorPtr> group = FormGroup(world_size, kLong);
    std::vector<int> order(static_cast<size_t>(world_size));
    std::iota(order.rbegin(), order.rend(), 0);
    for (int root = 0; root < world_size; ++root) {
      for (const size_t size : {1, 1000}) {
        std::vector<at::Tensor> tensors;
        for (int r = 0; r < world_size; ++r)
          tensors.push_back(TensorOf(RankValues<float>(r, size)));
        for (const Status& status : RunInOrder(group, order, [&](Communicator& c) {
               return c.Broadcast(tensors[c.rank()], root);
             })) {
          REQUIRE_OK(status);
        }
        for (const at::Tensor& tensor : tensors) {
          CHECK(SameBits(tensor, RankValues<float>(root, size)));
        }
      }
    }
  }
}

TEST_CASE("GlooCommunicator: nobody leaves a barrier before all have come",
          "[unit][model][torch]") {
  const std::vector<CommunicatorPtr> group = FormGroup(4, kLong);
  std::atomic<int> num_arrived = 0;
  std::atomic<bool> is_early = false;
  for (const Status& status : RunInOrder(group, {2, 0, 3, 1}, [&](Communicator& c) -> Status {
         for (int round = 1; round <= 50; ++round) {
           ++num_arrived;
           ROLLCALL_RETURN_IF_ERROR(c.Barrier());
           if (num_arrived < 4 * round) is_early = true;
         }
         return OkStatus();
       })) {
    REQUIRE_OK(status);
  }
  CHECK(!is_early);
}

TEST_CASE("GlooCommunicator: what is no group is refused", "[unit][model][torch]") {
  Store store;
  for (const auto& [rank, world_size] : {std::pair(0, 0), {-1, 2}, {2, 2}, {0, -1}}) {
    const Status status = Join(store, rank, world_size, kShort).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
  }
  const Status no_address = MakeGlooCommunicator({.rank = 0,
                                                  .world_size = 2,
                                                  .timeout = kShort,
                                                  .interface_address = "no-such-host.invalid"},
                                                 store.Callbacks())
                                .status();
  CHECK(!no_address.ok());
  const std::vector<CommunicatorPtr> group = FormGroup(2, kLong);
  for (const int root : {-1, 2}) {
    at::Tensor tensor = at::zeros({1}, at::kFloat);
    CHECK(group[0]->Broadcast(tensor, root).code() == StatusCode::kInvalidArgument);
  }
  at::Tensor whole = at::zeros({4}, at::kInt);
  CHECK(group[0]->AllReduceSum(whole).code() == StatusCode::kInvalidArgument);
  at::Tensor columns = at::zeros({4, 4}, at::kFloat).t();
  CHECK(group[0]->AllReduceSum(columns).code() == StatusCode::kInvalidArgument);
  // A call that was refused on every rank leaves the group as it was.
  for (const Status& status :
       RunInOrder(group, {0, 1}, [&](Communicator& c) { return c.Barrier(); })) {
    REQUIRE_OK(status);
  }
}

bool IsLostPeer(const Status& status) {
  return status.code() == StatusCode::kUnavailable ||
         status.code() == StatusCode::kDeadlineExceeded;
}

TEST_CASE("GlooCommunicator: a peer that never comes", "[unit][model][torch]") {
  Store store;
  std::vector<Status> statuses(2);
  const absl::Time start = absl::Now();
  OnThreads(2, [&](int rank) { statuses[rank] = Join(store, rank, 3, kShort).status(); });
  CHECK(absl::Now() - start < kShort + kSlack);
  for (const Status& status : statuses) {
    INFO(status.ToString());
    CHECK(IsLostPeer(status));
    CHECK(Message(status).find("group of 3 ranks") != std::string::npos);
  }
}

TEST_CASE("GlooCommunicator: a rendezvous that fails says why", "[unit][model][torch]") {
  Store store;
  RendezvousStore callbacks = store.Callbacks();
  callbacks.get = [](const std::string&, absl::Duration) -> StatusOr<std::string> {
    return FailedPrecondition("the epoch is over");
  };
  const Status status =
      MakeGlooCommunicator({.rank = 0, .world_size = 2, .timeout = kShort}, callbacks).status();
  INFO(status.ToString());
  CHECK(status.code() == StatusCode::kUnavailable);
  CHECK(Message(status).find("the epoch is over") != std::string::npos);
}

// Ranks 0 and 1 of three call; what rank 2 does differs. Returns what they got, all communicators
// destroyed.
std::vector<Status> CallWithout(absl::Duration timeout,
                                const std::function<void(CommunicatorPtr&)>& last) {
  std::vector<CommunicatorPtr> group = FormGroup(3, timeout);
  std::vector<Status> statuses(2);
  std::vector<Status> later(2);
  OnThreads(3, [&](int rank) {
    if (rank == 2) return last(group[2]);
    at::Tensor tensor = at::zeros({1000}, at::kFloat);
    do {
      statuses[rank] = group[rank]->AllReduceSum(tensor);
    } while (statuses[rank].ok());
    later[rank] = group[rank]->Barrier();
    group[rank].reset();
  });
  for (const Status& status : later) CHECK(IsLostPeer(status));
  return statuses;
}

TEST_CASE("GlooCommunicator: a peer that is silent costs the deadline and no more",
          "[unit][model][torch]") {
  const absl::Time start = absl::Now();
  // The first to give up takes its connections away from the other.
  bool has_deadline = false;
  for (const Status& status : CallWithout(kShort, [](CommunicatorPtr&) {})) {
    INFO(status.ToString());
    CHECK(IsLostPeer(status));
    CHECK(Message(status).find("of 3") != std::string::npos);
    has_deadline = has_deadline || status.code() == StatusCode::kDeadlineExceeded;
  }
  CHECK(has_deadline);
  CHECK(absl::Now() - start >= kShort);
  CHECK(absl::Now() - start < kShort + kSlack);
}

TEST_CASE("GlooCommunicator: a peer that dies is noticed long before the deadline",
          "[unit][model][torch]") {
  for (const int rounds : {0, 20}) {
    const absl::Time start = absl::Now();
    for (const Status& status : CallWithout(kLong, [&](CommunicatorPtr& rank) {
           at::Tensor tensor = at::zeros({1000}, at::kFloat);
           for (int i = 0; i < rounds; ++i) (void)rank->AllReduceSum(tensor);
           rank.reset();
         })) {
      INFO(status.ToString());
      CHECK(status.code() == StatusCode::kUnavailable);
    }
    CHECK(absl::Now() - start < kSlack);
  }
}

TEST_CASE("GlooCommunicator: Abort frees a waiting call and the destructor",
          "[unit][model][torch]") {
  std::vector<CommunicatorPtr> group = FormGroup(2, kLong);
  const absl::Time start = absl::Now();
  Status status;
  std::thread waiting([&] {
    do {
      status = group[0]->Barrier();
    } while (status.ok());
  });
  Status peer;
  for (int round = 0; round < 20 && peer.ok(); ++round) peer = group[1]->Barrier();
  group[0]->Abort();
  waiting.join();
  REQUIRE_OK(peer);
  CHECK(status.code() == StatusCode::kUnavailable);
  CHECK(group[0]->Barrier().code() == StatusCode::kUnavailable);
  group[0].reset();
  CHECK(group[1]->Barrier().code() == StatusCode::kUnavailable);
  group.clear();
  CHECK(absl::Now() - start < kSlack);
}

TEST_CASE("GlooCommunicator: a rank that gives up frees the others while it still exists",
          "[unit][model][torch]") {
  std::vector<CommunicatorPtr> group = FormGroup(3, kLong);
  const absl::Time start = absl::Now();
  std::vector<Status> statuses(3);
  OnThreads(3, [&](int rank) {
    for (int round = 0; statuses[rank].ok(); ++round) {
      if (rank == 1 && round == 20) group[1]->Abort();
      statuses[rank] = group[rank]->Barrier();
    }
  });
  for (const Status& status : statuses) {
    INFO(status.ToString());
    CHECK(status.code() == StatusCode::kUnavailable);
  }
  CHECK(absl::Now() - start < kSlack);
}

// Two groups that share a process must not hear each other.
TEST_CASE("GlooCommunicator: a new group works after a broken one", "[unit][model][torch]") {
  (void)CallWithout(kLong, [](CommunicatorPtr& rank) { rank.reset(); });
  CheckAllReduce<float>(FormGroup(3, kLong), 50);
}

}  // namespace
}  // namespace rollcall
