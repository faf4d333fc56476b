#include "services/base/runtime/random.h"

#include <cmath>
#include <numbers>

namespace rollcall {
namespace {

constexpr uint32_t kMultiplier0 = 0xD2511F53;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(kMultiplier0) * counter[0];
    const uint64_t product1 = static_cast<uint64_t>(kMultiplier1) * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

uint64_t MixKey(std::span<const uint64_t> words) {
  std::array<uint32_t, 2> key = {0x526f6c6c, 0x63616c6c};
  std::array<uint32_t, 4> state = {static_cast<uint32_t>(words.size()), 0, 0, 0};
  for (uint64_t word : words) {
    state[2] ^= static_cast<uint32_t>(word);
    state[3] ^= static_cast<uint32_t>(word >> 32);
    state = Philox4x32(state, key);
    key = {state[0], state[1]};
  }
  return (static_cast<uint64_t>(state[3]) << 32) | state[2];
}

uint64_t SampleStreamKey(uint64_t seed, uint64_t purpose, int64_t iteration, int64_t prompt_id,
                         int32_t sample_index) {
  const std::array<uint64_t, 5> words = {seed, purpose, static_cast<uint64_t>(iteration),
                                         static_cast<uint64_t>(prompt_id),
                                         static_cast<uint64_t>(sample_index)};
  return MixKey(words);
}

uint64_t CounterRandom::At(uint64_t index) const {
  const auto block =
      Philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0},
                 {static_cast<uint32_t>(key_), static_cast<uint32_t>(key_ >> 32)});
  return (static_cast<uint64_t>(block[1]) << 32) | block[0];
}

double CounterRandom::UniformAt(uint64_t index) const {
  return static_cast<double>(At(index) >> 11) * 0x1.0p-53;
}

uint64_t CounterRandom::Below(uint64_t bound) {
  // Rejection keeps the result exactly uniform.
  const uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  uint64_t value = Next();
  while (value >= limit) value = Next();
  return value % bound;
}

double CounterRandom::Normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - Uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * Uniform());
}

}  // namespace rollcall
