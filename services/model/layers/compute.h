// How and where the operations of one call compute. Bits never depend on the number of threads:
// work is cut between output columns, rows or heads, never inside a sum.
#pragma once

#include <algorithm>
#include <cstdint>

#include "services/base/runtime/thread_team.h"
#include "services/model/config/precision.h"

namespace rollcall {

struct Device;

struct Compute {
  ThreadTeam* team = nullptr;                 // null: the calling thread alone
  Precision precision = Precision::kFloat32;  // of matrix products
  // Null, or where all tensors of the call lie; see device.h. No gradients there, and products are
  // of the precision that the weights have there.
  const Device* device = nullptr;

  int num_threads() const { return team == nullptr ? 1 : team->num_threads(); }

  // fn(task, thread) for every task in [0, num_tasks); threads count from 0.
  template <typename Fn>
  void Tasks(int64_t num_tasks, Fn&& fn) const {
    if (team != nullptr) {
      team->Run(num_tasks, fn);
    } else {
      for (int64_t task = 0; task < num_tasks; ++task) fn(task, 0);
    }
  }

  // fn(begin, end) over parts that make up [0, count); one part where the whole costs little.
  // `cost` is that of the whole in elements touched or products made.
  template <typename Fn>
  void Split(int64_t count, int64_t cost, Fn&& fn) const {
    const int64_t num_parts = NumParts(count, cost);
    Tasks(num_parts,
          [&](int64_t part, int) { fn(part * count / num_parts, (part + 1) * count / num_parts); });
  }

  int64_t NumParts(int64_t count, int64_t cost) const {
    if (num_threads() == 1 || count == 0) return std::min<int64_t>(count, 1);
    const int64_t worth = cost / kTaskCost;
    return std::clamp<int64_t>(worth, 1, std::min(count, kTasksPerThread * num_threads()));
  }

  // A region costs about a microsecond, so a task should cost a few. More tasks than threads, since
  // a thread may lose its core for a while.
  static constexpr int64_t kTaskCost = 16384;
  static constexpr int64_t kTasksPerThread = 4;
};

}  // namespace rollcall
