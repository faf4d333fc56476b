#include "services/base/queue/bounded_queue.h"

#include <algorithm>
#include <numeric>
#include <thread>

#include "tests/support/catch.h"

namespace rollcall {

TEST_CASE("BoundedQueue: a full queue refuses after the time-out", "[unit][base]") {
  BoundedQueue<int> queue(2);
  REQUIRE_OK(queue.Push(1, absl::ZeroDuration()));
  REQUIRE_OK(queue.Push(2, absl::ZeroDuration()));
  CHECK(queue.Push(3, absl::Milliseconds(1)).code() == StatusCode::kResourceExhausted);
  CHECK(queue.Pop(absl::ZeroDuration()) == 1);
  REQUIRE_OK(queue.Push(3, absl::ZeroDuration()));
}

TEST_CASE("BoundedQueue: closing drains, then answers nothing", "[unit][base]") {
  BoundedQueue<int> queue(4);
  REQUIRE_OK(queue.Push(1, absl::ZeroDuration()));
  queue.Close();
  CHECK(queue.Push(2, absl::ZeroDuration()).code() == StatusCode::kCancelled);
  CHECK(queue.Pop(absl::Seconds(1)) == 1);
  CHECK_FALSE(queue.Pop(absl::Seconds(1)).has_value());
}

TEST_CASE("BoundedQueue: nothing is lost or doubled between threads", "[unit][base]") {
  BoundedQueue<int> queue(8);
  constexpr int kPerThread = 5000;
  std::vector<int> seen(2 * kPerThread);
  {
    std::vector<std::jthread> producers;
    for (int p = 0; p < 2; ++p) {
      producers.emplace_back([&queue, p] {
        for (int i = 0; i < kPerThread; ++i) {
          (void)queue.Push(p * kPerThread + i, absl::Seconds(30));
        }
      });
    }
    for (int i = 0; i < 2 * kPerThread;) {
      for (int value : queue.PopBatch(16, absl::Seconds(30))) {
        ++seen[value];
        ++i;
      }
    }
  }
  CHECK(std::accumulate(seen.begin(), seen.end(), 0) == 2 * kPerThread);
  CHECK(*std::min_element(seen.begin(), seen.end()) == 1);
}

}  // namespace rollcall
