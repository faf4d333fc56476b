#include "tests/unit/trainer/thread_group.h"

#include <thread>
#include <utility>
#include <vector>

#include "services/base/sync/mutex.h"

namespace rollcall::testing {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(30);

// Where the ranks meet: all put their tensor down, then all take what they need.
struct Meeting {
  explicit Meeting(int size) : tensors(size) {}
  Mutex mu;
  CondVar changed;
  std::vector<at::Tensor> tensors ABSL_GUARDED_BY(mu);
  int arrived ABSL_GUARDED_BY(mu) = 0;
  int64_t round ABSL_GUARDED_BY(mu) = 0;
  bool broken ABSL_GUARDED_BY(mu) = false;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(int rank, std::shared_ptr<Meeting> meeting, int size)
      : rank_(rank), size_(size), meeting_(std::move(meeting)) {}
  ~ThreadCommunicator() override { Abort(); }

  int rank() const override { return rank_; }
  int world_size() const override { return size_; }

  Status AllReduceSum(at::Tensor& tensor) override {
    ROLLCALL_RETURN_IF_ERROR(Meet(tensor.clone()));
    {
      MutexLock lock(meeting_->mu);
      tensor.zero_();
      for (const at::Tensor& part : meeting_->tensors) tensor.add_(part);
    }
    return Meet({});
  }
  Status Broadcast(at::Tensor& tensor, int root) override {
    ROLLCALL_RETURN_IF_ERROR(Meet(tensor.clone()));
    {
      MutexLock lock(meeting_->mu);
      tensor.copy_(meeting_->tensors[root]);
    }
    return Meet({});
  }
  Status Barrier() override { return Meet({}); }
  void Abort() override {
    MutexLock lock(meeting_->mu);
    meeting_->broken = true;
    meeting_->changed.NotifyAll();
  }

 private:
  // An undefined tensor leaves what was put down.
  Status Meet(const at::Tensor& tensor) {
    MutexLock lock(meeting_->mu);
    if (tensor.defined()) meeting_->tensors[rank_] = tensor;
    const int64_t round = meeting_->round;
    if (++meeting_->arrived == size_) {
      meeting_->arrived = 0;
      ++meeting_->round;
      meeting_->changed.NotifyAll();
      return OkStatus();
    }
    while (meeting_->round == round) {
      if (meeting_->broken) return Unavailable("a peer is gone");
      if (!meeting_->changed.WaitFor(meeting_->mu, kDeadline)) return DeadlineExceeded("no peer");
    }
    return OkStatus();
  }

  const int rank_;
  const int size_;
  const std::shared_ptr<Meeting> meeting_;
};

}  // namespace

std::unique_ptr<Communicator> MakeLoneCommunicator() {
  return std::make_unique<ThreadCommunicator>(0, std::make_shared<Meeting>(1), 1);
}

void RunRanks(int world_size, const std::function<void(std::unique_ptr<Communicator>)>& fn) {
  const auto meeting = std::make_shared<Meeting>(world_size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size; ++rank) {
    threads.emplace_back(
        [&, rank] { fn(std::make_unique<ThreadCommunicator>(rank, meeting, world_size)); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace rollcall::testing
