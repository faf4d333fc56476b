// Rows of a call cut into tiles of about equal height, each for one thread.
#pragma once

#include <cstdint>
#include <exception>
#include <vector>

#include <ATen/core/grad_mode.h>

#include "services/model/layers/compute.h"

namespace rollcall {

class RowTiles {
 public:
  // The activations of a tile fit the cache of a core.
  static constexpr int64_t kMostRows = 96;
  // Fewer rows are better shared by columns, because every tile reads all weights.
  static constexpr int64_t kLeastRows = 48;

  RowTiles(int64_t num_rows, const Compute& compute)
      : num_rows_(num_rows),
        num_tiles_(NumTiles(num_rows, compute.num_threads())),
        compute_(compute) {}

  // One tile is no gain: its operations use all threads themselves.
  bool is_cut() const { return num_tiles_ > 1; }

  // fn(first row, rows, compute of one thread) once for every tile, without gradients. Throws what
  // the first tile that failed threw, after all have ended.
  template <typename Fn>
  void Run(const Fn& fn) const {
    std::vector<std::exception_ptr> failures(static_cast<size_t>(num_tiles_));
    const Compute alone{.precision = compute_.precision};
    compute_.Tasks(num_tiles_, [&](int64_t tile, int /*thread*/) {
      try {
        const at::NoGradGuard no_grad;
        const int64_t first = num_rows_ * tile / num_tiles_;
        fn(first, num_rows_ * (tile + 1) / num_tiles_ - first, alone);
      } catch (...) {
        failures[static_cast<size_t>(tile)] = std::current_exception();
      }
    });
    for (const std::exception_ptr& failure : failures) {
      if (failure != nullptr) std::rethrow_exception(failure);
    }
  }

 private:
  // As many for each thread.
  static int64_t NumTiles(int64_t num_rows, int64_t num_threads) {
    if (num_rows < num_threads * kLeastRows) return 1;
    const int64_t most = num_threads * kMostRows;
    return (num_rows + most - 1) / most * num_threads;
  }

  const int64_t num_rows_;
  const int64_t num_tiles_;
  const Compute compute_;
};

}  // namespace rollcall
