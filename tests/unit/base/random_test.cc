#include "services/base/runtime/random.h"

#include <cmath>
#include <set>
#include <vector>

#include "tests/support/catch.h"

namespace rollcall {

// Known answers of the Random123 distribution (kat_vectors, philox4x32 with 10 rounds).
TEST_CASE("Philox4x32: matches the published known answers", "[unit][base]") {
  CHECK(Philox4x32({0, 0, 0, 0}, {0, 0}) ==
        std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("SampleStreamKey: every part of the key changes the stream", "[unit][base]") {
  std::set<uint64_t> keys;
  for (uint64_t seed : {0, 1}) {
    for (uint64_t purpose : {1, 2}) {
      for (int64_t iteration = 0; iteration < 8; ++iteration) {
        for (int64_t prompt = 0; prompt < 8; ++prompt) {
          for (int32_t index = 0; index < 8; ++index) {
            keys.insert(SampleStreamKey(seed, purpose, iteration, prompt, index));
          }
        }
      }
    }
  }
  CHECK(keys.size() == 2u * 2 * 8 * 8 * 8);
}

TEST_CASE("CounterRandom: a value depends on key and index alone", "[unit][base]") {
  CounterRandom sequential(42);
  std::vector<uint64_t> values;
  for (int i = 0; i < 100; ++i) values.push_back(sequential.Next());
  const CounterRandom fresh(42);
  for (int i = 99; i >= 0; --i) CHECK(fresh.At(i) == values[i]);
}

TEST_CASE("CounterRandom: uniform and normal have the moments they should", "[unit][base]") {
  CounterRandom random(7);
  constexpr int kCount = 200000;
  double sum = 0;
  for (int i = 0; i < kCount; ++i) sum += random.Uniform();
  CHECK(sum / kCount == Approx(0.5).margin(0.005));  // 5 sigma is 0.0032
  double mean = 0;
  double square = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = random.Normal();
    mean += x;
    square += x * x;
  }
  CHECK(mean / kCount == Approx(0.0).margin(0.012));
  CHECK(square / kCount == Approx(1.0).margin(0.02));
}

TEST_CASE("CounterRandom: Below covers its range evenly", "[unit][base]") {
  CounterRandom random(3);
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; ++i) ++counts[random.Below(7)];
  for (int count : counts) CHECK(std::abs(count - 10000) < 500);  // 5 sigma is 463
}

}  // namespace rollcall
