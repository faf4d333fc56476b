#include "services/base/runtime/executor.h"

#include <atomic>
#include <future>
#include <set>
#include <thread>
#include <vector>

#include "services/base/sync/mutex.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

constexpr std::chrono::seconds kPatience(30);

TEST_CASE("InlineExecutor: a task runs before Schedule returns", "[unit][base]") {
  InlineExecutor executor;
  bool ran = false;
  REQUIRE_OK(executor.Schedule([&] { ran = true; }));
  CHECK(ran);
}

TEST_CASE("ThreadPool: every accepted task runs exactly once", "[unit][base]") {
  constexpr int kTasks = 500;
  std::vector<std::atomic<int>> runs(kTasks);
  {
    const auto pool = MakeThreadPool(4, kTasks);
    for (int i = 0; i < kTasks; ++i) REQUIRE_OK(pool->Schedule([&runs, i] { ++runs[i]; }));
  }
  int exactly_once = 0;
  for (const auto& count : runs) exactly_once += count.load() == 1 ? 1 : 0;
  CHECK(exactly_once == kTasks);
}

TEST_CASE("ThreadPool: a full queue refuses and the refused task never runs", "[unit][base]") {
  std::promise<void> started;
  std::promise<void> release;
  std::atomic<int> runs{0};
  Status refused;
  {
    const auto pool = MakeThreadPool(1, 2);
    REQUIRE_OK(pool->Schedule([&, gate = release.get_future().share()] {
      started.set_value();
      gate.wait_for(kPatience);
    }));
    REQUIRE(started.get_future().wait_for(kPatience) == std::future_status::ready);
    REQUIRE_OK(pool->Schedule([&] { ++runs; }));
    REQUIRE_OK(pool->Schedule([&] { ++runs; }));
    refused = pool->Schedule([&] { runs += 100; });
    release.set_value();
  }
  CHECK(refused.code() == StatusCode::kResourceExhausted);
  CHECK(runs.load() == 2);
}

TEST_CASE("ThreadPool: tasks run side by side on all threads", "[unit][base]") {
  constexpr int kThreads = 3;
  std::promise<void> all_here;
  std::atomic<int> here{0};
  std::atomic<bool> together{true};
  {
    const auto pool = MakeThreadPool(kThreads, kThreads);
    const std::shared_future<void> gate = all_here.get_future().share();
    for (int i = 0; i < kThreads; ++i) {
      REQUIRE_OK(pool->Schedule([&, gate] {
        if (++here == kThreads) all_here.set_value();
        if (gate.wait_for(kPatience) != std::future_status::ready) together = false;
      }));
    }
  }
  CHECK(together.load());
}

TEST_CASE("ThreadPool: a task may schedule another", "[unit][base]") {
  std::promise<void> done;
  const auto pool = MakeThreadPool(1, 4);
  REQUIRE_OK(pool->Schedule([&] {
    const Status scheduled = pool->Schedule([&] { done.set_value(); });
    if (!scheduled.ok()) done.set_exception(std::make_exception_ptr(std::runtime_error("refused")));
  }));
  auto future = done.get_future();
  REQUIRE(future.wait_for(kPatience) == std::future_status::ready);
  CHECK_NOTHROW(future.get());
}

}  // namespace
}  // namespace rollcall
