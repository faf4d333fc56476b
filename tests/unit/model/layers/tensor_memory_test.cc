#include "services/model/layers/tensor_memory.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include "services/base/runtime/random.h"
#include "services/model/tensor.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

constexpr size_t kMaxKept = size_t{8} << 20;

at::Tensor Bytes(int64_t size) { return at::empty({size}, at::kByte); }

// Under AddressSanitizer nothing is recycled.
bool IsRecycling() {
  RecycleTensorMemory(kMaxKept);
  const at::Tensor tensor = Bytes(100);
  return GetTensorMemoryStats().used_bytes > 0;
}

TEST_CASE("RecycleTensorMemory: the next tensor of the size gets the memory",
          "[unit][model][torch]") {
  if (!IsRecycling()) return;
  at::Tensor first = Bytes(1 << 20);
  const void* const data = first.data_ptr();
  CHECK(reinterpret_cast<uintptr_t>(data) % 64 == 0);
  first.reset();
  const at::Tensor much_smaller = Bytes(600 << 10);
  CHECK(much_smaller.data_ptr() != data);
  const at::Tensor smaller = Bytes(900 << 10);
  CHECK(smaller.data_ptr() == data);
  const at::Tensor larger = Bytes(1 << 20);
  CHECK(larger.data_ptr() != data);
}

TEST_CASE("RecycleTensorMemory: an empty tensor, and one without recycling",
          "[unit][model][torch]") {
  if (!IsRecycling()) return;
  CHECK(Bytes(0).numel() == 0);
  const TensorMemoryStats before = GetTensorMemoryStats();
  {
    const at::Tensor small = Bytes(1000);
  }
  {
    const at::Tensor too_large = Bytes(int64_t{kMaxKept} + (1 << 20));
  }
  const TensorMemoryStats after = GetTensorMemoryStats();
  CHECK(after.kept_bytes == before.kept_bytes);
  CHECK(after.used_bytes == before.used_bytes);
}

TEST_CASE("RecycleTensorMemory: the longest unused memory goes first", "[unit][model][torch]") {
  if (!IsRecycling()) return;
  std::vector<at::Tensor> tensors;
  // Three of two and a half MiB fit into eight.
  for (int i = 0; i < 4; ++i) tensors.push_back(Bytes(5 << 19));
  std::vector<void*> data;
  for (at::Tensor& tensor : tensors) {
    data.push_back(tensor.data_ptr());
    tensor.reset();
  }
  CHECK(GetTensorMemoryStats().kept_bytes <= kMaxKept);
  for (size_t i = 1; i < 4; ++i) tensors[i] = Bytes(5 << 19);
  for (size_t i = 1; i < 4; ++i)
    CHECK(std::count(data.begin() + 1, data.end(), tensors[i].data_ptr()) == 1);
}

// Two tensors never have the same memory, whatever comes and goes on which thread.
TEST_CASE("RecycleTensorMemory: random tensors of several threads keep what is theirs",
          "[unit][model][torch]") {
  if (!IsRecycling()) return;
  std::vector<int64_t> damaged(4);
  std::vector<size_t> most_kept(4);
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < damaged.size(); ++t) {
      threads.emplace_back([&, t] {
        CounterRandom random(t);
        std::vector<std::pair<at::Tensor, uint8_t>> live;
        for (int step = 0; step < 3000; ++step) {
          if (live.size() < 8 && random.Below(2) == 0) {
            const auto mark = static_cast<uint8_t>(random.Below(256));
            const auto size =
                static_cast<int64_t>(1 + random.Below(uint64_t{1} << (6 + random.Below(15))));
            live.emplace_back(Bytes(size), mark);
            live.back().first.fill_(mark);
          } else if (!live.empty()) {
            const size_t i = random.Below(live.size());
            damaged[t] += live[i].first.ne(live[i].second).sum().item<int64_t>();
            std::swap(live[i], live.back());
            live.pop_back();
          }
          most_kept[t] = std::max(most_kept[t], GetTensorMemoryStats().kept_bytes);
        }
      });
    }
  }
  for (size_t t = 0; t < damaged.size(); ++t) {
    CHECK(damaged[t] == 0);
    CHECK(most_kept[t] <= kMaxKept);
  }
  CHECK(GetTensorMemoryStats().num_kept <= kMaxKeptTensors);
}

}  // namespace
}  // namespace rollcall
