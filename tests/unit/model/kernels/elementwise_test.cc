// Activations, caps and LayerNorm against their definitions in double.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/model/kernels/cpu_kernels.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

using Floats = std::vector<float>;

double Act(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return x * 0.5 * std::erfc(-x / std::numbers::sqrt2);
    case Activation::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu:
      return std::max(x, 0.0);
  }
  return NAN;
}

Floats Grid() {
  Floats grid;
  for (float x = -12; x < 12; x += 0.0137F) grid.push_back(x);
  grid.insert(grid.end(), {0.0F, 0.625F, -0.625F, 1e-6F, -1e-6F, 100.0F, -100.0F, 1e30F});
  return grid;
}

constexpr Activation kAll[] = {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh,
                               Activation::kRelu};

TEST_CASE("Activate: every activation and its slope match double", "[unit][model]") {
  const Floats x = Grid();
  const auto size = static_cast<int64_t>(x.size());
  const Floats up(x.size(), -1.5F);
  const Floats dy(x.size(), 2.0F);
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    for (const Activation activation : kAll) {
      INFO(kernels->name << " " << static_cast<int>(activation));
      Floats plain(x.size());
      Floats gated(x.size());
      Floats dplain(x.size());
      Floats dgate(x.size());
      Floats dup(x.size());
      kernels->activate(
          {.activation = activation, .gate = x.data(), .size = size, .y = plain.data()});
      kernels->activate({.activation = activation,
                         .gate = x.data(),
                         .up = up.data(),
                         .size = size,
                         .y = gated.data()});
      kernels->activate_grad({.activation = activation,
                              .gate = x.data(),
                              .dy = dy.data(),
                              .size = size,
                              .dgate = dplain.data()});
      kernels->activate_grad({.activation = activation,
                              .gate = x.data(),
                              .up = up.data(),
                              .dy = dy.data(),
                              .size = size,
                              .dgate = dgate.data(),
                              .dup = dup.data()});
      for (size_t i = 0; i < x.size(); ++i) {
        INFO("x " << x[i]);
        const double want = Act(activation, x[i]);
        REQUIRE(std::abs(plain[i] - want) <= 6e-7 * std::max(1.0, std::abs(want)));
        REQUIRE(gated[i] == plain[i] * -1.5F);
        REQUIRE(dup[i] == 2.0F * plain[i]);
        if (std::abs(x[i]) > 50) continue;
        if (activation == Activation::kRelu && std::abs(x[i]) < 1e-3) continue;
        const double step = 1e-4;
        const double slope =
            (Act(activation, x[i] + step) - Act(activation, x[i] - step)) / (2 * step);
        REQUIRE(dplain[i] == Approx(2 * slope).margin(1e-5));
        REQUIRE(dgate[i] == Approx(-3 * slope).margin(1e-5));
      }
    }
  }
}

TEST_CASE("Activate: a lane does not depend on its place, and not-a-number stays",
          "[unit][model]") {
  const Floats x = Grid();
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    for (const Activation activation : {Activation::kGelu, Activation::kGeluTanh}) {
      Floats all(x.size());
      kernels->activate({.activation = activation,
                         .gate = x.data(),
                         .size = static_cast<int64_t>(x.size()),
                         .y = all.data()});
      for (size_t i = 0; i < x.size(); i += 13) {
        float alone = 0;
        kernels->activate({.activation = activation, .gate = &x[i], .size = 1, .y = &alone});
        CHECK(std::memcmp(&alone, &all[i], sizeof(float)) == 0);
      }
      float nan = NAN;
      kernels->activate({.activation = activation, .gate = &nan, .size = 1, .y = &nan});
      CHECK(std::isnan(nan));
    }
  }
}

TEST_CASE("SoftCap: cap * tanh(x / cap), its slope from the result", "[unit][model]") {
  const Floats x = Grid();
  const auto size = static_cast<int64_t>(x.size());
  const Floats dy(x.size(), 3.0F);
  for (const CpuKernels* kernels : AvailableCpuKernels()) {
    for (const float cap : {0.5F, 4.0F, 30.0F}) {
      INFO(kernels->name << " cap " << cap);
      Floats y(x.size());
      Floats dx(x.size());
      kernels->soft_cap({.x = x.data(), .size = size, .cap = cap, .y = y.data()});
      kernels->soft_cap_grad(
          {.y = y.data(), .dy = dy.data(), .size = size, .cap = cap, .dx = dx.data()});
      for (size_t i = 0; i < x.size(); ++i) {
        INFO("x " << x[i]);
        const double tanh = std::tanh(double{x[i]} / cap);
        REQUIRE(y[i] == Approx(cap * tanh).epsilon(6e-7));
        REQUIRE(dx[i] == Approx(3 * (1 - tanh * tanh)).margin(3e-6));
      }
    }
  }
}

struct NormCase {
  int64_t rows, width;
  Floats x, w, b, dy;
};

NormCase RandomNorm(int64_t rows, int64_t width) {
  CounterRandom random(static_cast<uint64_t>(width));
  NormCase c{rows, width, {}, {}, {}, {}};
  for (int64_t i = 0; i < rows * width; ++i) {
    c.x.push_back(static_cast<float>(3 + random.Normal()));
    c.dy.push_back(static_cast<float>(random.Normal()));
  }
  for (int64_t i = 0; i < width; ++i) {
    c.w.push_back(static_cast<float>(random.Normal()));
    c.b.push_back(static_cast<float>(random.Normal()));
  }
  return c;
}

// Sum of dy * y in double, as a function of x, w and b.
double NormLoss(const NormCase& c, const std::vector<double>& x, const std::vector<double>& w,
                const std::vector<double>& b) {
  double loss = 0;
  for (int64_t n = 0; n < c.rows; ++n) {
    const double* row = x.data() + n * c.width;
    double mean = 0;
    double square = 0;
    for (int64_t i = 0; i < c.width; ++i) mean += row[i] / static_cast<double>(c.width);
    for (int64_t i = 0; i < c.width; ++i) {
      square += (row[i] - mean) * (row[i] - mean) / static_cast<double>(c.width);
    }
    for (int64_t i = 0; i < c.width; ++i) {
      loss += c.dy[n * c.width + i] * ((row[i] - mean) / std::sqrt(square + 1e-5) * w[i] + b[i]);
    }
  }
  return loss;
}

TEST_CASE("LayerNorm: the definition, and gradients by finite differences", "[unit][model]") {
  for (const int64_t width : {2, 16, 21, 40}) {
    const NormCase c = RandomNorm(3, width);
    const std::vector<double> x(c.x.begin(), c.x.end());
    const std::vector<double> w(c.w.begin(), c.w.end());
    const std::vector<double> b(c.b.begin(), c.b.end());
    for (const CpuKernels* kernels : AvailableCpuKernels()) {
      INFO(kernels->name << " width " << width);
      Floats y(c.x.size());
      kernels->layer_norm({.x = c.x.data(),
                           .w = c.w.data(),
                           .b = c.b.data(),
                           .num_rows = 3,
                           .width = width,
                           .eps = 1e-5,
                           .y = y.data()});
      double loss = 0;
      for (size_t i = 0; i < y.size(); ++i) loss += double{y[i]} * c.dy[i];
      CHECK(loss == Approx(NormLoss(c, x, w, b)).margin(1e-4));

      Floats dx(c.x.size());
      Floats dw(c.w.size(), 1.0F);  // added to
      Floats db(c.w.size(), 1.0F);
      kernels->layer_norm_grad({.x = c.x.data(),
                                .w = c.w.data(),
                                .dy = c.dy.data(),
                                .num_rows = 3,
                                .width = width,
                                .eps = 1e-5,
                                .dx = dx.data(),
                                .dw = dw.data(),
                                .db = db.data()});
      const auto slope = [&](std::vector<double> at, size_t i, auto&& value) {
        at[i] += 1e-5;
        const double above = value(at);
        at[i] -= 2e-5;
        return (above - value(at)) / 2e-5;
      };
      for (size_t i = 0; i < x.size(); ++i) {
        const double want = slope(x, i, [&](const auto& v) { return NormLoss(c, v, w, b); });
        CHECK(dx[i] == Approx(want).margin(2e-3 * (width == 2 ? 10 : 1)));
      }
      for (size_t i = 0; i < w.size(); ++i) {
        CHECK(dw[i] - 1 == Approx(slope(w, i, [&](const auto& v) {
                             return NormLoss(c, x, v, b);
                           })).margin(1e-4));
        CHECK(db[i] - 1 == Approx(slope(b, i, [&](const auto& v) {
                             return NormLoss(c, x, w, v);
                           })).margin(1e-4));
      }
    }
  }
}

}  // namespace
}  // namespace rollcall
