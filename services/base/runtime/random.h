// Counter-based randomness: Philox4x32-10. A value depends only on (key, counter), so a stream can
// be entered anywhere, by any process, in any order.
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace rollcall {

// One Philox4x32-10 block.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Mixes 64-bit words into one well-spread 64-bit key; order matters. Pure.
uint64_t MixKey(std::span<const uint64_t> words);

// Key of the random stream of one sample: equal for a sample that is generated again.
uint64_t SampleStreamKey(uint64_t seed, uint64_t purpose, int64_t iteration, int64_t prompt_id,
                         int32_t sample_index);

// A stream of values under one key. Cheap to create and copy; not thread-safe.
class CounterRandom {
 public:
  explicit CounterRandom(uint64_t key) : key_(key) {}

  // Value number `index` of the stream, independent of any state.
  uint64_t At(uint64_t index) const;
  // Uniform in [0, 1) with 53 bits, at `index`.
  double UniformAt(uint64_t index) const;

  // Sequential use: the next value; uniform in [0, 1); uniform integer in [0, bound), bound > 0;
  // standard normal.
  uint64_t Next() { return At(next_++); }
  double Uniform() { return UniformAt(next_++); }
  uint64_t Below(uint64_t bound);
  double Normal();

 private:
  uint64_t key_;
  uint64_t next_ = 0;
};

// Fisher-Yates, fixed by the key.
template <typename T>
void Shuffle(std::span<T> items, CounterRandom& random) {
  for (size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[random.Below(i)]);
  }
}

}  // namespace rollcall
