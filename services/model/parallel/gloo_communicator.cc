#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "services/model/parallel/communicator.h"

namespace rollcall {
namespace {

std::chrono::milliseconds ToMilliseconds(absl::Duration duration) {
  return std::chrono::milliseconds(absl::ToInt64Milliseconds(duration));
}

// c10d's rendezvous over our callbacks. c10d reports failure by throwing; so does this.
class CallbackStore final : public c10d::Store {
 public:
  CallbackStore(RendezvousStore callbacks, std::chrono::milliseconds timeout)
      : c10d::Store(timeout), callbacks_(std::move(callbacks)) {}

  c10::intrusive_ptr<c10d::Store> clone() override {
    return c10::make_intrusive<CallbackStore>(callbacks_, timeout_);
  }
  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    Require(callbacks_.set(key, std::string(value.begin(), value.end())), key);
  }
  std::vector<uint8_t> get(const std::string& key) override {
    const StatusOr<std::string> value = callbacks_.get(key, absl::Milliseconds(timeout_.count()));
    Require(value.status(), key);
    return std::vector<uint8_t>(value->begin(), value->end());
  }
  int64_t add(const std::string& key, int64_t amount) override {
    const StatusOr<int64_t> value = callbacks_.add(key, amount);
    Require(value.status(), key);
    return *value;
  }
  // A group's keys live as long as its epoch.
  bool deleteKey(const std::string&) override { return false; }
  bool check(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) {
      const StatusOr<std::string> value = callbacks_.get(key, absl::ZeroDuration());
      if (value.status().code() == StatusCode::kDeadlineExceeded) return false;
      Require(value.status(), key);
    }
    return true;
  }
  int64_t getNumKeys() override {
    throw std::runtime_error("the rendezvous store does not count its keys");
  }
  void wait(const std::vector<std::string>& keys) override { wait(keys, timeout_); }
  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& timeout) override {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    for (const std::string& key : keys) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - std::chrono::steady_clock::now());
      const int64_t left_ms = left.count() > 0 ? left.count() : 0;
      Require(callbacks_.get(key, absl::Milliseconds(left_ms)).status(), key);
    }
  }

 private:
  static void Require(const Status& status, const std::string& key) {
    if (!status.ok()) {
      throw std::runtime_error("rendezvous key '" + key + "': " + status.ToString());
    }
  }

  const RendezvousStore callbacks_;
};

// A group of one: every collective is its own input.
class SingleCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  Status AllReduceSum(at::Tensor&) override { return OkStatus(); }
  Status Broadcast(at::Tensor&, int) override { return OkStatus(); }
  Status Barrier() override { return OkStatus(); }
};

// The deadline of a collective passed; told apart from a peer that is gone.
class DeadlineError final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class GlooCommunicator final : public Communicator {
 public:
  GlooCommunicator(const CommunicatorOptions& options,
                   c10::intrusive_ptr<c10d::ProcessGroupGloo> group)
      : options_(options), group_(std::move(group)) {}

  int rank() const override { return options_.rank; }
  int world_size() const override { return options_.world_size; }

  // Each rank gathers one slice of everybody's tensor at a time and adds in rank order, so that the
  // sum has the same bits on every rank and in every run.
  Status AllReduceSum(at::Tensor& tensor) override {
    if ((tensor.scalar_type() != at::kFloat && tensor.scalar_type() != at::kDouble) ||
        !tensor.is_contiguous()) {
      return InvalidArgument("all-reduce: expected a contiguous tensor of float32 or float64");
    }
    return Collective("all-reduce", [&] {
      at::Tensor flat = tensor.view({-1});
      const int64_t size = flat.numel();
      for (int64_t start = 0; start < size; start += kSliceElements) {
        const int64_t length = std::min(kSliceElements, size - start);
        at::Tensor part = flat.narrow(0, start, length);
        std::vector<std::vector<at::Tensor>> gathered(1);
        for (int r = 0; r < options_.world_size; ++r) {
          gathered[0].push_back(at::empty({length}, part.options()));
        }
        std::vector<at::Tensor> input = {part};
        Wait(group_->allgather(gathered, input));
        part.copy_(gathered[0][0]);
        for (int r = 1; r < options_.world_size; ++r) part.add_(gathered[0][r]);
      }
    });
  }

  Status Broadcast(at::Tensor& tensor, int root) override {
    if (root < 0 || root >= options_.world_size || !tensor.is_contiguous()) {
      return InvalidArgument("broadcast: expected a contiguous tensor and a root from 0 to " +
                             std::to_string(options_.world_size - 1) + ", got " +
                             std::to_string(root));
    }
    return Collective("broadcast", [&] {
      c10d::BroadcastOptions broadcast;
      broadcast.rootRank = root;
      std::vector<at::Tensor> tensors = {tensor};
      Wait(group_->broadcast(tensors, broadcast));
    });
  }

  Status Barrier() override {
    at::Tensor token = at::zeros({1});
    return AllReduceSum(token);
  }

  void Abort() override { aborted_.store(true); }

 private:
  static constexpr int64_t kSliceElements = 1 << 20;
  static constexpr std::chrono::milliseconds kPoll{50};

  // Waits in short slices, so that Abort is noticed.
  void Wait(const c10::intrusive_ptr<c10d::Work>& work) {
    const auto deadline = std::chrono::steady_clock::now() + ToMilliseconds(options_.timeout);
    while (!work->isCompleted()) {
      if (aborted_.load()) throw std::runtime_error("the group was dissolved");
      if (std::chrono::steady_clock::now() > deadline) {
        throw DeadlineError("no answer from the peers before the deadline");
      }
      // Collectives of small models take tens of microseconds: spin briefly, then sleep.
      if (std::chrono::steady_clock::now() + ToMilliseconds(options_.timeout) <
          deadline + std::chrono::milliseconds(2)) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
    }
    work->wait(kPoll);  // Rethrows what went wrong.
  }

  template <typename Fn>
  Status Collective(const char* what, Fn fn) {
    if (aborted_.load() && !broken_) Break();
    if (broken_) {
      return Unavailable(std::string(what) + ": the communicator is broken");
    }
    const auto describe = [&](const std::exception& e) {
      return std::string(what) + " of rank " + std::to_string(options_.rank) + " of " +
             std::to_string(options_.world_size) + ": " + e.what();
    };
    try {
      fn();
      return OkStatus();
    } catch (const DeadlineError& e) {
      Break();
      return DeadlineExceeded(describe(e));
    } catch (const std::exception& e) {
      Break();
      return Unavailable(describe(e));
    }
  }

  // Ends what is still in flight, which the destructor would wait for, and lets the peers notice:
  // gloo closes all connections of a group when one receive times out.
  void Break() {
    broken_ = true;
    try {
      std::vector<at::Tensor> nothing = {at::zeros({1})};
      const int peer = (options_.rank + 1) % options_.world_size;
      group_->recv(nothing, peer, /*tag=*/0)->wait(std::chrono::milliseconds(1));
    } catch (const std::exception&) {
      // The time-out, or connections that are closed already.
    }
  }

  const CommunicatorOptions options_;
  const c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  std::atomic<bool> aborted_{false};
  bool broken_ = false;
};

}  // namespace

StatusOr<std::unique_ptr<Communicator>> MakeGlooCommunicator(const CommunicatorOptions& options,
                                                             RendezvousStore store) {
  if (options.world_size < 1 || options.rank < 0 || options.rank >= options.world_size) {
    return InvalidArgument("rank " + std::to_string(options.rank) + " of " +
                           std::to_string(options.world_size) + " is no rank of a group");
  }
  if (options.world_size == 1) return std::make_unique<SingleCommunicator>();
  try {
    auto settings = c10d::ProcessGroupGloo::Options::create(ToMilliseconds(options.timeout));
    settings->devices = {
        c10d::ProcessGroupGloo::createDeviceForHostname(options.interface_address)};
    settings->threads = 1;
    auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(
        c10::make_intrusive<CallbackStore>(std::move(store), ToMilliseconds(options.timeout)),
        options.rank, options.world_size, settings);
    // From here on Wait keeps the deadline; gloo's own comes after it.
    group->setTimeout(ToMilliseconds(options.timeout) + std::chrono::seconds(1));
    return std::make_unique<GlooCommunicator>(options, std::move(group));
  } catch (const std::exception& e) {
    return Unavailable("cannot form the group of " + std::to_string(options.world_size) +
                       " ranks: " + e.what());
  }
}

}  // namespace rollcall
