// Whitening over the tokens of the whole batch: (x - mean) / sqrt(var + epsilon), Bessel variance.
// Moments are added over ranks, the second about the global mean.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "services/base/status/status.h"
#include "trainer/advantage/advantage.h"

namespace rollcall {

// Adds the values over all ranks, in place.
using SumOverRanks = std::function<Status(std::span<double>)>;

struct Moments {
  double count = 0;
  double mean = 0;
  double variance = 0;  // Bessel; 0 below two values
};

// Moments over all ranks of the tokens of sequences with keep_S set.
StatusOr<Moments> GlobalMoments(std::span<const int64_t> token_starts,
                                std::span<const uint8_t> keep_S, std::span<const double> values_T,
                                const SumOverRanks& sum);

// Fewer than two tokens over all ranks are left as they are. Dropped sequences keep their values.
void Whiten(const Moments& moments, std::span<const int64_t> token_starts,
            std::span<const uint8_t> keep_S, double epsilon, std::span<double> values_T);

}  // namespace rollcall
