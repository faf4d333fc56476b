#include "services/base/runtime/thread_team.h"

#include "services/base/status/status.h"

namespace rollcall {
namespace {

// How long a thread looks for the next round before it sleeps: longer than the gap between two
// regions of a step, far shorter than the time between two steps of an idle engine.
constexpr int kSpins = 4000;
// The caller waits for tasks that others have taken. They run, unless the machine gave their core
// to somebody else; then the caller gives up its own.
constexpr int kSpinsBeforeYield = 2000;

constexpr uint64_t kTaskMask = (uint64_t{1} << 32) - 1;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadTeam::ThreadTeam(int num_threads) {
  ROLLCALL_CHECK(num_threads >= 1, "a team has at least the calling thread");
  threads_.reserve(static_cast<size_t>(num_threads - 1));
  for (int i = 1; i < num_threads; ++i) threads_.emplace_back([this, i] { WorkerLoop(i); });
}

ThreadTeam::~ThreadTeam() {
  stopping_.store(true);
  round_.fetch_add(1);
  round_.notify_all();
}

void ThreadTeam::RunTasks(int64_t num_tasks, Call call, void* callable) {
  ROLLCALL_CHECK(num_tasks < static_cast<int64_t>(kTaskMask), "too many tasks");
  const uint32_t round = round_.load(std::memory_order_relaxed) + 1;
  // Closes the last round first: a thread that still looks at it may see the new tasks, and must
  // then fail to take one.
  next_.store((uint64_t{round} << 32) | kTaskMask, std::memory_order_release);
  call_.store(call, std::memory_order_release);
  callable_.store(callable, std::memory_order_release);
  num_tasks_.store(num_tasks, std::memory_order_release);
  num_done_.store(0, std::memory_order_relaxed);
  next_.store(uint64_t{round} << 32, std::memory_order_release);
  round_.store(round, std::memory_order_seq_cst);
  round_.notify_all();
  TakeTasks(round, 0);
  for (int spins = 0; num_done_.load(std::memory_order_acquire) < num_tasks; ++spins) {
    if (spins < kSpinsBeforeYield) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadTeam::TakeTasks(uint32_t round, int thread) {
  int64_t num_run = 0;
  uint64_t next = next_.load(std::memory_order_acquire);
  while (next >> 32 == round) {
    const Call call = call_.load(std::memory_order_acquire);
    void* const callable = callable_.load(std::memory_order_acquire);
    const auto task = static_cast<int64_t>(next & kTaskMask);
    if (task >= num_tasks_.load(std::memory_order_acquire)) break;
    // Succeeds in this round only, so what was read belongs to it.
    if (!next_.compare_exchange_weak(next, next + 1, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
      continue;
    }
    call(callable, task, thread);
    ++num_run;
    next = next_.load(std::memory_order_acquire);
  }
  if (num_run > 0) num_done_.fetch_add(num_run, std::memory_order_acq_rel);
}

uint32_t ThreadTeam::WaitForRound(uint32_t seen) {
  for (int spins = 0; round_.load(std::memory_order_acquire) == seen; ++spins) {
    if (spins < kSpins) {
      Pause();
    } else {
      round_.wait(seen, std::memory_order_acquire);
    }
  }
  return round_.load(std::memory_order_acquire);
}

void ThreadTeam::WorkerLoop(int thread) {
  uint32_t seen = 0;
  while (true) {
    seen = WaitForRound(seen);
    if (stopping_.load()) return;
    TakeTasks(seen, thread);
  }
}

}  // namespace rollcall
