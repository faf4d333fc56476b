// Where work runs: a bounded thread pool in production, the caller's thread in tests.
#pragma once

#include <functional>
#include <memory>

#include "services/base/status/status.h"

namespace rollcall {

// Thread-safe.
class Executor {
 public:
  virtual ~Executor() = default;
  // kResourceExhausted when the queue is full, kCancelled after shutdown; fn does not run then.
  virtual Status Schedule(std::function<void()> fn) = 0;
};

// Runs fn before Schedule returns.
class InlineExecutor final : public Executor {
 public:
  Status Schedule(std::function<void()> fn) override;
};

// `num_threads` threads over one queue of at most `queue_capacity` tasks. The destructor runs what
// is queued and joins. A task that throws is a broken invariant.
std::unique_ptr<Executor> MakeThreadPool(int num_threads, size_t queue_capacity);

}  // namespace rollcall
