#include "services/base/runtime/thread_team.h"

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

TEST_CASE("ThreadTeam: every task of every round runs exactly once", "[unit][base]") {
  CounterRandom random(1);
  for (const int num_threads : {1, 2, 3, 8}) {
    ThreadTeam team(num_threads);
    REQUIRE(team.num_threads() == num_threads);
    std::atomic<int64_t> num_wrong{0};
    for (int round = 0; round < 3000; ++round) {
      // Plain integers: Run's return must make them visible.
      std::vector<int> runs(random.Below(20));
      team.Run(static_cast<int64_t>(runs.size()), [&](int64_t task, int thread) {
        ++runs[task];
        num_wrong += thread >= 0 && thread < num_threads ? 0 : 1;
      });
      for (const int count : runs) num_wrong += count == 1 ? 0 : 1;
    }
    INFO(num_threads << " threads");
    CHECK(num_wrong == 0);
  }
}

TEST_CASE("ThreadTeam: a round sees what the round before it wrote", "[unit][base]") {
  ThreadTeam team(4);
  std::vector<int64_t> values(64);
  std::iota(values.begin(), values.end(), 0);
  std::vector<int64_t> next(values.size());
  for (int round = 0; round < 2000; ++round) {
    team.Run(64, [&](int64_t task, int) { next[task] = values[(task + 1) % 64] + 1; });
    team.Run(64, [&](int64_t task, int) { values[task] = next[task]; });
  }
  for (int64_t i = 0; i < 64; ++i) REQUIRE(values[i] == (i + 2000) % 64 + 2000);
}

TEST_CASE("ThreadTeam: tasks run side by side", "[unit][base]") {
  ThreadTeam team(2);
  std::atomic<int> num_inside{0};
  std::atomic<bool> met{false};
  // Each task waits for the other, which only another thread can run.
  team.Run(2, [&](int64_t, int) {
    ++num_inside;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (num_inside.load() < 2 && std::chrono::steady_clock::now() < limit) {
      std::this_thread::yield();
    }
    if (num_inside.load() == 2) met = true;
  });
  CHECK(met);
}

TEST_CASE("ThreadTeam: sleeping threads wake for the next round", "[unit][base]") {
  ThreadTeam team(3);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::atomic<int> sum{0};
    team.Run(100, [&](int64_t task, int) { sum += static_cast<int>(task); });
    REQUIRE(sum == 4950);
  }
}

TEST_CASE("ThreadTeam: it ends while its threads sleep or spin", "[unit][base]") {
  for (int i = 0; i < 200; ++i) {
    ThreadTeam team(4);
    if (i % 2 == 0) team.Run(4, [](int64_t, int) {});
    if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  SUCCEED();
}

}  // namespace
}  // namespace rollcall
