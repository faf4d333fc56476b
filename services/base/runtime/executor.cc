#include "services/base/runtime/executor.h"

#include <exception>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "services/base/queue/bounded_queue.h"

namespace rollcall {
namespace {

// An exception that left a task would end the process without a word about where it came from.
void RunTask(const std::function<void()>& fn) {
  try {
    fn();
  } catch (const std::exception& e) {
    CheckFailed("a task does not throw", e.what());
  } catch (...) {
    CheckFailed("a task does not throw", "unknown exception");
  }
}

class ThreadPool final : public Executor {
 public:
  ThreadPool(int num_threads, size_t queue_capacity) : queue_(queue_capacity) {
    threads_.reserve(static_cast<size_t>(num_threads));
    for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Run(); });
  }

  ~ThreadPool() override {
    queue_.Close();
    for (std::thread& thread : threads_) thread.join();
  }

  Status Schedule(std::function<void()> fn) override {
    return queue_.Push(std::move(fn), absl::ZeroDuration());
  }

 private:
  void Run() {
    while (true) {
      if (std::optional<std::function<void()>> fn = queue_.Pop(absl::Seconds(60))) {
        RunTask(*fn);
      } else if (queue_.closed() && queue_.size() == 0) {
        // Nothing is pushed after Close, so empty after closed is final; in the other order a task
        // pushed between a time-out and Close would be left behind.
        return;
      }
    }
  }

  BoundedQueue<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace

Status InlineExecutor::Schedule(std::function<void()> fn) {
  RunTask(fn);
  return OkStatus();
}

std::unique_ptr<Executor> MakeThreadPool(int num_threads, size_t queue_capacity) {
  ROLLCALL_CHECK(num_threads > 0, "a thread pool needs at least one thread");
  ROLLCALL_CHECK(queue_capacity > 0, "a thread pool needs room for at least one task");
  return std::make_unique<ThreadPool>(num_threads, queue_capacity);
}

}  // namespace rollcall
