// A queue with a bound, for several producers and consumers.
//
//   open --Close()--> closed (pushes refused, pops drain what is left, then say closed)
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

// Thread-safe. Every wait has a deadline.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // kResourceExhausted when still full after `timeout`; kCancelled when closed.
  Status Push(T item, absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    const absl::Time deadline = absl::Now() + timeout;
    while (!closed_ && items_.size() >= capacity_) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return ResourceExhausted("queue is full");
      room_.WaitFor(mu_, left);
    }
    if (closed_) return Cancelled("queue is closed");
    items_.push_back(std::move(item));
    ready_.NotifyOne();
    return OkStatus();
  }

  // The oldest item; nothing when none came within `timeout` or the queue is closed and empty.
  std::optional<T> Pop(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_) {
    std::vector<T> batch = PopBatch(1, timeout);
    if (batch.empty()) return std::nullopt;
    return std::move(batch.front());
  }

  // Waits for the first item, then takes up to `max_items` without waiting for more.
  std::vector<T> PopBatch(size_t max_items, absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    const absl::Time deadline = absl::Now() + timeout;
    while (items_.empty() && !closed_) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return {};
      ready_.WaitFor(mu_, left);
    }
    std::vector<T> batch;
    while (!items_.empty() && batch.size() < max_items) {
      batch.push_back(std::move(items_.front()));
      items_.pop_front();
    }
    room_.NotifyAll();
    return batch;
  }

  void Close() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    closed_ = true;
    ready_.NotifyAll();
    room_.NotifyAll();
  }

  size_t size() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return items_.size();
  }
  bool closed() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return closed_;
  }

 private:
  const size_t capacity_;
  mutable Mutex mu_;
  CondVar ready_;
  CondVar room_;
  std::deque<T> items_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace rollcall
