// The device kernels that work row by row or element by element, against the CPU kernels.
#include <limits>

#include "services/model/kernels/cpu_kernels.h"
#include "tests/unit/model/kernels/cuda/device_test.h"

namespace rollcall {
namespace {

const DeviceKernels& Device() { return kEmulatedKernels; }

// Sums run in another order than on the CPU: a few units in the last place of the largest term.
void RequireClose(const Floats& got, const Floats& want, double margin) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("element " << i);
    REQUIRE(got[i] == Approx(want[i]).epsilon(2e-6).margin(margin));
  }
}

TEST_CASE("Device norms: as on the CPU, in every order of threads", "[unit][model]") {
  CounterRandom random(1);
  for (const int64_t width : {1, 7, 64, 256, 257, 1024, 1500}) {
    const int64_t rows = 5;
    const Floats x = RandomFloats(random, rows * width);
    const Floats w = RandomFloats(random, width);
    const Floats b = RandomFloats(random, width);
    for (const float offset : {0.0F, 1.0F}) {
      Floats want(x.size());
      RmsNormArgs args{.x = x.data(),
                       .w = w.data(),
                       .num_rows = rows,
                       .width = width,
                       .eps = 1e-5,
                       .weight_offset = offset,
                       .y = want.data()};
      BestCpuKernels().rms_norm(args);
      for (const EmulatorOrder::Kind kind : kOrders) {
        const EmulatorOrder order(kind);
        Floats got(x.size(), NAN);
        args.y = got.data();
        REQUIRE(Device().rms_norm(args, nullptr) == 0);
        RequireClose(got, want, 2e-6);
      }
    }
    Floats want(x.size());
    LayerNormArgs args{.x = x.data(),
                       .w = w.data(),
                       .b = b.data(),
                       .num_rows = rows,
                       .width = width,
                       .eps = 1e-5,
                       .y = want.data()};
    BestCpuKernels().layer_norm(args);
    Floats got(x.size(), NAN);
    args.y = got.data();
    REQUIRE(Device().layer_norm(args, nullptr) == 0);
    RequireClose(got, want, 4e-6);
  }
}

TEST_CASE("Device norms: a row's bits do not depend on the batch", "[unit][model]") {
  CounterRandom random(2);
  const int64_t width = 300;
  const Floats x = RandomFloats(random, 8 * width);
  const Floats w = RandomFloats(random, width);
  Floats all(x.size());
  RmsNormArgs args{.x = x.data(), .w = w.data(), .num_rows = 8, .width = width, .y = all.data()};
  REQUIRE(Device().rms_norm(args, nullptr) == 0);
  for (int64_t row = 0; row < 8; ++row) {
    Floats alone(width);
    args.x = x.data() + row * width;
    args.num_rows = 1;
    args.y = alone.data();
    REQUIRE(Device().rms_norm(args, nullptr) == 0);
    CHECK(std::memcmp(alone.data(), all.data() + row * width, width * sizeof(float)) == 0);
  }
}

TEST_CASE("Device activations and caps: as on the CPU", "[unit][model]") {
  Floats x;
  for (float v = -12; v < 12; v += 0.0137F) x.push_back(v);
  x.insert(x.end(), {0.0F, 1e-6F, -1e-6F, 100.0F, -100.0F, 1e30F});
  const auto size = static_cast<int64_t>(x.size());
  const Floats up(x.size(), -1.5F);
  for (const Activation activation :
       {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    for (const float* factor : {static_cast<const float*>(nullptr), up.data()}) {
      INFO(static_cast<int>(activation));
      Floats want(x.size());
      ActivationArgs args{
          .activation = activation, .gate = x.data(), .up = factor, .size = size, .y = want.data()};
      BestCpuKernels().activate(args);
      Floats got = x;  // in place
      args.gate = got.data();
      args.y = got.data();
      REQUIRE(Device().activate(args, nullptr) == 0);
      RequireClose(got, want, 1e-6);
    }
    float nan = NAN;
    const ActivationArgs args{.activation = activation, .gate = &nan, .size = 1, .y = &nan};
    REQUIRE(Device().activate(args, nullptr) == 0);
    CHECK(std::isnan(nan));
  }
  Floats want(x.size());
  SoftCapArgs args{.x = x.data(), .size = size, .cap = 4, .y = want.data()};
  BestCpuKernels().soft_cap(args);
  Floats got(x.size(), NAN);
  args.y = got.data();
  REQUIRE(Device().soft_cap(args, nullptr) == 0);
  RequireClose(got, want, 1e-6);
}

TEST_CASE("Device rotary: the same bits as on the CPU, whole heads and parts", "[unit][model]") {
  CounterRandom random(4);
  const int64_t rows = 9;
  const int64_t heads = 3;
  const int64_t head_dim = 48;
  const Floats table = RandomFloats(random, 20 * head_dim);
  std::vector<int32_t> positions;
  for (int64_t n = 0; n < rows; ++n) positions.push_back(static_cast<int32_t>(random.Below(20)));
  for (const int64_t rotary_dim : {48, 16}) {
    for (const float direction : {1.0F, -1.0F}) {
      Floats want = RandomFloats(random, rows * heads * head_dim);
      Floats got = want;
      RotaryArgs args{.x = want.data(),
                      .num_rows = rows,
                      .num_heads = heads,
                      .head_dim = head_dim,
                      .rotary_dim = rotary_dim,
                      .table = table.data(),
                      .positions = positions.data(),
                      .direction = direction};
      BestCpuKernels().rotary(args);
      args.x = got.data();
      REQUIRE(Device().rotary(args, nullptr) == 0);
      CHECK(SameBits(got, want));
    }
  }
}

TEST_CASE("Device sums, conversions and gathers are exact", "[unit][model]") {
  CounterRandom random(5);
  const int64_t width = 37;
  const Floats a = RandomFloats(random, 300);
  Floats b = RandomFloats(random, 300);
  Floats want(300);
  BestCpuKernels().add(a.data(), b.data(), 300, want.data());
  REQUIRE(Device().add({.a = a.data(), .b = b.data(), .size = 300, .y = b.data()}, nullptr) == 0);
  CHECK(SameBits(b, want));

  std::vector<uint16_t> rounded(300);
  REQUIRE(Device().convert({.x = a.data(), .size = 300, .y = rounded.data()}, nullptr) == 0);
  CHECK(rounded == Bf16sOf(a));

  const std::vector<int32_t> ids = {7, 0, 7, 3};
  const Floats table = RandomFloats(random, 8 * width);
  const std::vector<uint16_t> half_table = Bf16sOf(table);
  for (const bool is_half : {false, true}) {
    Floats rows(ids.size() * width, NAN);
    REQUIRE(Device().embed({.table = is_half ? static_cast<const void*>(half_table.data())
                                             : static_cast<const void*>(table.data()),
                            .table_dtype = is_half ? DeviceDType::kBf16 : DeviceDType::kF32,
                            .ids = ids.data(),
                            .num_rows = 4,
                            .width = width,
                            .scale = 1.5F,
                            .y = rows.data()},
                           nullptr) == 0);
    for (int64_t n = 0; n < 4; ++n) {
      for (int64_t e = 0; e < width; ++e) {
        const int64_t at = ids[n] * width + e;
        const float value = is_half ? FloatOf(half_table[at]) : table[at];
        REQUIRE(rows[n * width + e] == value * 1.5F);
      }
    }
  }
  Floats rows(ids.size() * width, NAN);
  REQUIRE(
      Device().gather_rows(
          {.x = table.data(), .rows = ids.data(), .num_rows = 4, .width = width, .y = rows.data()},
          nullptr) == 0);
  for (int64_t i = 0; i < 4 * width; ++i) {
    REQUIRE(rows[i] == table[ids[i / width] * width + i % width]);
  }
}

TEST_CASE("Device log-softmax: as on the CPU, masked logits included", "[unit][model]") {
  CounterRandom random(6);
  for (const int64_t width : {1, 33, 256, 1000}) {
    const int64_t rows = 4;
    Floats logits = RandomFloats(random, rows * width);
    for (float& logit : logits) logit *= 5;
    for (int64_t v = 1; v < width; v += 3) logits[width + v] = -INFINITY;
    Floats inverse_temperatures;
    std::vector<int32_t> targets;
    for (int64_t n = 0; n < rows; ++n) {
      inverse_temperatures.push_back(0.5F + static_cast<float>(n));
      targets.push_back(static_cast<int32_t>(random.Below(width)));
    }
    for (const EmulatorOrder::Kind kind : kOrders) {
      const EmulatorOrder order(kind);
      Floats logprobs(rows, NAN);
      Floats stats(3 * rows, NAN);
      REQUIRE(Device().log_softmax({.logits = logits.data(),
                                    .num_rows = rows,
                                    .width = width,
                                    .inverse_temperatures = inverse_temperatures.data(),
                                    .targets = targets.data(),
                                    .logprobs = logprobs.data(),
                                    .stats = stats.data()},
                                   nullptr) == 0);
      for (int64_t n = 0; n < rows; ++n) {
        INFO("width " << width << " row " << n);
        const float* row = logits.data() + n * width;
        const LogSoftmaxStats want =
            BestCpuKernels().log_softmax_stats(row, width, inverse_temperatures[n]);
        float logprob = 0;
        BestCpuKernels().log_softmax_write(row + targets[n], 1, inverse_temperatures[n], want,
                                           &logprob);
        CHECK(stats[3 * n] == want.max);
        CHECK(stats[3 * n + 1] == Approx(want.log_sum).epsilon(1e-6).margin(1e-6));
        CHECK(stats[3 * n + 2] == Approx(want.entropy).epsilon(3e-6).margin(3e-6));
        if (std::isinf(logprob)) {
          CHECK(logprobs[n] == logprob);
        } else {
          CHECK(logprobs[n] == Approx(logprob).epsilon(1e-6).margin(2e-6));
        }
      }
    }
  }
}

TEST_CASE("Device kernels: no rows is no error", "[unit][model]") {
  CHECK(Device().rms_norm({.width = 8}, nullptr) == 0);
  CHECK(Device().add({}, nullptr) == 0);
  CHECK(Device().linear({.depth = 4, .num_outputs = 4}, nullptr) == 0);
  CHECK(Device().log_softmax({.width = 8}, nullptr) == 0);
}

}  // namespace
}  // namespace rollcall
