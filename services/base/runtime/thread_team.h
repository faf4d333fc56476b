// A few threads that work through one short list of tasks together, many thousand times a second:
// the regions of one step of a model. The thread that calls Run is one of them.
//
//   Run -> post the tasks -> every thread takes the next one, chunk by chunk -> all done
//
// Nobody waits for a thread that has not come yet: it takes what is left, if anything. So a team on
// a busy machine is never slower than the calling thread by more than one task.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace rollcall {

class ThreadTeam {
 public:
  // `num_threads` >= 1, the caller's included; 1 starts none.
  explicit ThreadTeam(int num_threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls fn(task, thread) once for every task in [0, num_tasks) and returns when all have
  // returned. Threads count from 0, the caller. Which one runs which task is open, so results must
  // not depend on it. fn must not throw and must not call Run. Allocates nothing. From one thread
  // at a time.
  template <typename Fn>
  void Run(int64_t num_tasks, Fn&& fn) {
    using Callable = std::remove_reference_t<Fn>;
    if (threads_.empty() || num_tasks <= 1) {
      for (int64_t task = 0; task < num_tasks; ++task) fn(task, 0);
      return;
    }
    RunTasks(
        num_tasks,
        [](void* callable, int64_t task, int thread) {
          (*static_cast<Callable*>(callable))(task, thread);
        },
        const_cast<void*>(static_cast<const void*>(&fn)));
  }

 private:
  using Call = void (*)(void* callable, int64_t task, int thread);

  void RunTasks(int64_t num_tasks, Call call, void* callable);
  // Runs tasks of this round until none is left to take.
  void TakeTasks(uint32_t round, int thread);
  void WorkerLoop(int thread);
  // The newest round, which is not `seen`.
  uint32_t WaitForRound(uint32_t seen);

  // Written by the caller between two rounds, while `next_` lets nobody take a task.
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> callable_{nullptr};
  std::atomic<int64_t> num_tasks_{0};

  // Apart from each other: all threads write to `next_`, `num_done_` and wait for `round_`.
  alignas(64) std::atomic<uint32_t> round_{0};
  // The round in the upper half, the next task in the lower: a task is taken only in its round.
  alignas(64) std::atomic<uint64_t> next_{0};
  alignas(64) std::atomic<int64_t> num_done_{0};
  std::atomic<bool> stopping_{false};

  std::vector<std::jthread> threads_;
};

}  // namespace rollcall
