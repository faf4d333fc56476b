// The emulator finds what would be undefined on a GPU.
#include <stdexcept>
#include <string>
#include <vector>

#include "services/model/kernels/cuda/device.h"
#include "tests/unit/model/kernels/cuda/device_test.h"

namespace rollcall::emulated {
namespace {

int RunBlock(int threads, int64_t shared_bytes, const std::function<void()>& kernel) {
  return emulator::Run({.num_threads = threads, .shared_bytes = shared_bytes}, kernel);
}

std::string ErrorOf(int threads, const std::function<void()>& kernel) {
  try {
    RunBlock(threads, 1024, kernel);
  } catch (const std::logic_error& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("DeviceEmulator: every thread of every block runs once", "[unit][model]") {
  std::vector<int> count(3 * 4 * 5 * 64);
  const emulator::Launch launch{.blocks_x = 3, .blocks_y = 4, .blocks_z = 5, .num_threads = 64};
  REQUIRE(emulator::Run(launch, [&] {
            const int64_t block = (BlockZ() * 4 + BlockY()) * 3 + BlockX();
            ++count[block * NumThreads() + ThreadIndex()];
          }) == 0);
  for (const int times : count) REQUIRE(times == 1);
}

TEST_CASE("DeviceEmulator: a barrier shows what other threads wrote", "[unit][model]") {
  for (const EmulatorOrder::Kind kind : kOrders) {
    const EmulatorOrder order(kind);
    std::vector<float> out(256);
    RunBlock(256, 256 * 4, [&] {
      auto* shared = reinterpret_cast<float*>(SharedMemory());
      shared[ThreadIndex()] = static_cast<float>(ThreadIndex());
      Barrier();
      out[ThreadIndex()] = shared[255 - ThreadIndex()];
    });
    for (int i = 0; i < 256; ++i) REQUIRE(out[i] == static_cast<float>(255 - i));
  }
}

TEST_CASE("DeviceEmulator: without the barrier another order gives another result",
          "[unit][model]") {
  const auto run = [](EmulatorOrder::Kind kind) {
    const EmulatorOrder order(kind);
    std::vector<float> out(64);
    RunBlock(64, 64 * 4, [&] {
      auto* shared = reinterpret_cast<float*>(SharedMemory());
      shared[ThreadIndex()] = 1.0F;
      out[ThreadIndex()] = shared[63 - ThreadIndex()];
    });
    return out;
  };
  const std::vector<float> forward = run(EmulatorOrder::Kind::kForward);
  const std::vector<float> backward = run(EmulatorOrder::Kind::kBackward);
  // What was not written yet is not a number.
  CHECK((std::isnan(forward[0]) && forward[63] == 1.0F));
  CHECK((std::isnan(backward[63]) && backward[0] == 1.0F));
}

TEST_CASE("DeviceEmulator: a shuffle exchanges within the warp", "[unit][model]") {
  for (const EmulatorOrder::Kind kind : kOrders) {
    const EmulatorOrder order(kind);
    std::vector<float> got(96);
    std::vector<float> sums(96);
    RunBlock(96, 0, [&] {
      const int thread = ThreadIndex();
      got[thread] = ShuffleXor(static_cast<float>(thread), 5);
      sums[thread] = WarpSum(static_cast<float>(thread));
    });
    for (int i = 0; i < 96; ++i) {
      REQUIRE(got[i] == static_cast<float>(i ^ 5));
      const int warp = i / 32;
      REQUIRE(sums[i] == static_cast<float>(32 * 32 * warp + 31 * 16));
    }
  }
}

TEST_CASE("DeviceEmulator: threads that part ways are an error with the place", "[unit][model]") {
  // Some threads leave before the barrier.
  CHECK(ErrorOf(64, [] {
          if (ThreadIndex() < 40) Barrier();
        }).find("thread 40 at its end") != std::string::npos);
  // Two different barriers.
  const std::string two = ErrorOf(64, [] {
    if (ThreadIndex() < 32) {
      Barrier();
    } else {
      Barrier();
    }
  });
  CHECK(two.find("at different places") != std::string::npos);
  CHECK(two.find("device_emulator_test.cc") != std::string::npos);
  // A shuffle in a part of the warp; in a warp that is not whole.
  CHECK(!ErrorOf(32, [] {
           if (ThreadIndex() % 2 == 0) ShuffleXor(1.0F, 1);
         }).empty());
  CHECK(ErrorOf(16, [] { ShuffleXor(1.0F, 1); }).find("a warp is not whole") != std::string::npos);
  // Different lanes ask for different ones.
  CHECK(!ErrorOf(32, [] { ShuffleXor(1.0F, ThreadIndex() % 2 + 1); }).empty());
}

TEST_CASE("DeviceEmulator: an exception in a kernel comes out of the launch", "[unit][model]") {
  CHECK(ErrorOf(64, [] {
          if (ThreadIndex() == 7) throw std::logic_error("seven");
          Barrier();
        }) == "seven");
  // And the next launch is not disturbed.
  int count = 0;
  CHECK(RunBlock(32, 0, [&] { ++count; }) == 0);
  CHECK(count == 32);
}

TEST_CASE("DeviceEmulator: refuses what a GPU refuses", "[unit][model]") {
  const auto nothing = [] {};
  CHECK(RunBlock(2048, 0, nothing) != 0);
  CHECK(RunBlock(32, 200 << 10, nothing) != 0);
  CHECK(emulator::Run({.blocks_y = 70000, .num_threads = 32}, nothing) != 0);
  // Nothing to do is no error.
  CHECK(emulator::Run({.blocks_x = 0, .num_threads = 32}, nothing) == 0);
}

TEST_CASE("Bf16: rounds to nearest, ties to even", "[unit][model]") {
  CounterRandom random(3);
  for (int i = 0; i < 100000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(random.Next()));
    INFO(x);
    REQUIRE(RoundTo<Bf16>(x).bits == Bf16Of(x));
  }
  CHECK(ToFloat(RoundTo<Bf16>(1.00390625F)) == 1.0F);       // half way, to even
  CHECK(ToFloat(RoundTo<Bf16>(1.01171875F)) == 1.015625F);  // half way, to even
  CHECK(std::isinf(ToFloat(RoundTo<Bf16>(3.4e38F))));
  CHECK(RoundTo<Bf16>(NAN).bits == 0x7FFF);
}

}  // namespace
}  // namespace rollcall::emulated
