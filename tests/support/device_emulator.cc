#include "tests/support/device_emulator.h"

#include <cstddef>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "services/base/runtime/random.h"
#include "tests/support/fiber.h"

namespace rollcall {
namespace emulator {
namespace {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;
constexpr int64_t kMaxShared = int64_t{163} << 10;  // of a block, compute capability 8.0

enum class State { kReady, kAtBarrier, kAtShuffle, kDone };

struct Thread {
  Fiber fiber;
  State state = State::kDone;
  std::source_location where;
  float value = 0;  // offered to a shuffle, then got from it
  int mask = 0;
  ThreadPlace place;
};

std::string PlaceText(const Thread& thread) {
  const char* names[] = {"running", "at a barrier", "at a shuffle", "at its end"};
  std::string text =
      "thread " + std::to_string(thread.place.thread) + " " + names[static_cast<int>(thread.state)];
  if (thread.state == State::kAtBarrier || thread.state == State::kAtShuffle) {
    text += std::string(" (") + thread.where.file_name() + ":" +
            std::to_string(thread.where.line()) + ")";
  }
  return text;
}

// One grid at a time on one thread.
class Machine {
 public:
  EmulatorOrder::Kind order = EmulatorOrder::Kind::kForward;
  uint64_t seed = 1;

  void RunGrid(const Launch& launch, const std::function<void()>& kernel) {
    if (kernel_ != nullptr) throw std::logic_error("a kernel started a kernel");
    Prepare(launch, kernel);
    const std::unique_ptr<Machine, void (*)(Machine*)> reset(
        this, [](Machine* self) { self->kernel_ = nullptr; });
    for (int64_t z = 0; z < launch.blocks_z; ++z) {
      for (int64_t y = 0; y < launch.blocks_y; ++y) {
        for (int64_t x = 0; x < launch.blocks_x; ++x) RunBlock(launch, x, y, z);
      }
    }
  }

  const ThreadPlace& place() const { return threads_[running_].place; }

  // Leaves the running fiber until it is ready again.
  void Wait(State state, float value, int mask, std::source_location where) {
    Thread& thread = threads_[running_];
    thread.state = state;
    thread.where = where;
    thread.value = value;
    thread.mask = mask;
    thread.fiber.Leave();
  }
  float shuffled() const { return threads_[running_].value; }

 private:
  void Prepare(const Launch& launch, const std::function<void()>& kernel) {
    count_ = static_cast<size_t>(launch.num_threads);
    while (threads_.size() < count_) threads_.emplace_back();
    kernel_ = &kernel;
  }

  void RunBlock(const Launch& launch, int64_t x, int64_t y, int64_t z) {
    // On the heap and of the very size, so that AddressSanitizer sees a step beyond it.
    std::unique_ptr<std::byte[]> shared;
    if (launch.shared_bytes > 0) {
      shared.reset(new std::byte[static_cast<size_t>(launch.shared_bytes)]);
      std::memset(shared.get(), 0xFF, static_cast<size_t>(launch.shared_bytes));
    }
    for (size_t i = 0; i < count_; ++i) {
      Thread& thread = threads_[i];
      thread.state = State::kReady;
      thread.place = {.thread = static_cast<int>(i),
                      .num_threads = launch.num_threads,
                      .block_x = x,
                      .block_y = y,
                      .block_z = z,
                      .shared = reinterpret_cast<char*>(shared.get())};
      thread.fiber.Start(&Machine::ThreadMain, this);
    }
    while (true) {
      const Round round = NextRound();
      for (size_t i = 0; i < count_; ++i) {
        running_ = (round.first + i * round.step) % count_;
        if (threads_[running_].state == State::kReady) threads_[running_].fiber.Enter();
      }
      if (error_ != nullptr) std::rethrow_exception(std::exchange(error_, nullptr));
      if (All(0, count_, State::kDone)) return;
      if (!ReleaseShuffles() && !ReleaseBarrier()) Stuck();
    }
  }

  // Thread number i of the round is (first + i * step) mod count.
  struct Round {
    size_t first;
    size_t step;
  };
  Round NextRound() {
    switch (order) {
      case EmulatorOrder::Kind::kForward:
        return {0, 1};
      case EmulatorOrder::Kind::kBackward:
        return {count_ - 1, count_ - 1};
      case EmulatorOrder::Kind::kRandom:
        break;
    }
    const CounterRandom random(seed);
    const uint64_t value = random.At(++rounds_);
    Round round{value % count_, (value >> 32) % count_};
    while (std::gcd(round.step, count_) != 1) ++round.step;
    return round;
  }

  // Whether threads begin .. end-1 are all in this state, at one place.
  bool All(size_t begin, size_t end, State state) const {
    for (size_t i = begin; i < end; ++i) {
      if (threads_[i].state != state) return false;
      if (state != State::kDone && threads_[i].where.line() != threads_[begin].where.line()) {
        return false;
      }
      if (state == State::kAtShuffle && threads_[i].mask != threads_[begin].mask) return false;
    }
    return true;
  }

  bool ReleaseShuffles() {
    bool released = false;
    for (size_t first = 0; first + kWarp <= count_; first += kWarp) {
      if (!All(first, first + kWarp, State::kAtShuffle)) continue;
      float values[kWarp];
      for (size_t lane = 0; lane < kWarp; ++lane) values[lane] = threads_[first + lane].value;
      for (size_t lane = 0; lane < kWarp; ++lane) {
        Thread& thread = threads_[first + lane];
        thread.value = values[lane ^ static_cast<size_t>(thread.mask)];
        thread.state = State::kReady;
      }
      released = true;
    }
    return released;
  }

  bool ReleaseBarrier() {
    if (!All(0, count_, State::kAtBarrier)) return false;
    for (size_t i = 0; i < count_; ++i) threads_[i].state = State::kReady;
    return true;
  }

  [[noreturn]] void Stuck() {
    const Thread& first = threads_.front();
    for (size_t i = 0; i < count_; ++i) {
      const Thread& thread = threads_[i];
      if (thread.state != first.state || thread.where.line() != first.where.line() ||
          thread.mask != first.mask) {
        throw std::logic_error("threads of a block wait for each other at different places: " +
                               PlaceText(first) + ", " + PlaceText(thread));
      }
    }
    throw std::logic_error("a warp is not whole: " + PlaceText(first));
  }

  static void ThreadMain(void* machine) {
    auto* self = static_cast<Machine*>(machine);
    try {
      (*self->kernel_)();
    } catch (...) {
      if (self->error_ == nullptr) self->error_ = std::current_exception();
    }
    self->threads_[self->running_].state = State::kDone;
  }

  std::deque<Thread> threads_;  // of the largest block so far
  size_t count_ = 0;            // of this block
  const std::function<void()>* kernel_ = nullptr;
  size_t running_ = 0;
  uint64_t rounds_ = 0;
  std::exception_ptr error_;
};

// The words of device.h are free functions, as they are on a GPU; where they are called from is a
// matter of the thread, as it is there.
Machine& ThisMachine() {
  static thread_local Machine machine;
  return machine;
}

}  // namespace

int Run(const Launch& launch, const std::function<void()>& kernel) {
  if (launch.blocks_x <= 0 || launch.blocks_y <= 0 || launch.blocks_z <= 0) return 0;
  if (launch.blocks_x >= int64_t{1} << 31 || launch.blocks_y >= 1 << 16 ||
      launch.blocks_z >= 1 << 16 || launch.num_threads <= 0 || launch.num_threads > kMaxThreads ||
      launch.shared_bytes > kMaxShared) {
    return 1;
  }
  ThisMachine().RunGrid(launch, kernel);
  return 0;
}

const ThreadPlace& Place() { return ThisMachine().place(); }

void Barrier(std::source_location where) { ThisMachine().Wait(State::kAtBarrier, 0, 0, where); }

float ShuffleXor(float value, int mask, std::source_location where) {
  ThisMachine().Wait(State::kAtShuffle, value, mask, where);
  return ThisMachine().shuffled();
}

}  // namespace emulator

EmulatorOrder::EmulatorOrder(Kind kind, uint64_t seed) {
  emulator::ThisMachine().order = kind;
  emulator::ThisMachine().seed = seed;
}
EmulatorOrder::~EmulatorOrder() { emulator::ThisMachine().order = Kind::kForward; }

}  // namespace rollcall
