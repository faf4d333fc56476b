#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "tests/support/catch.h"
#include "tests/unit/trainer/golden.h"
#include "trainer/optimizer/adamw.h"
#include "trainer/optimizer/clip.h"
#include "trainer/optimizer/schedule.h"

namespace rollcall {
namespace {

std::vector<double> Doubles(std::span<const float> values) {
  return {values.begin(), values.end()};
}

AdamWOptions OptionsOf(const nlohmann::json& golden) {
  const nlohmann::json& o = golden["options"];
  return {.beta1 = o["beta1"],
          .beta2 = o["beta2"],
          .epsilon = o["epsilon"],
          .weight_decay = o["weight_decay"]};
}

TEST_CASE("AdamW: the numbers of torch.optim.AdamW", "[unit][trainer]") {
  const nlohmann::json golden = testing::GoldenFile("adamw.json");
  std::vector<float> parameters = golden["start"];
  AdamW optimizer(OptionsOf(golden), parameters.size());
  for (size_t i = 0; i < golden["gradients"].size(); ++i) {
    const std::vector<float> gradient = golden["gradients"][i];
    optimizer.Update(golden["options"]["learning_rate"], gradient, parameters);
    // Two roundings of float32.
    testing::RequireClose(Doubles(parameters), testing::Numbers(golden["after"][i]), 3e-7);
  }
  testing::RequireClose(Doubles(optimizer.first_moment()), testing::Numbers(golden["first_moment"]),
                        3e-7);
  testing::RequireClose(Doubles(optimizer.second_moment()),
                        testing::Numbers(golden["second_moment"]), 3e-7);
}

TEST_CASE("AdamW: a restored optimizer goes on with the same bits", "[unit][trainer]") {
  const nlohmann::json golden = testing::GoldenFile("adamw.json");
  std::vector<float> whole = golden["start"];
  AdamW optimizer(OptionsOf(golden), whole.size());
  for (int i = 0; i < 2; ++i) {
    optimizer.Update(1e-2, golden["gradients"][i].get<std::vector<float>>(), whole);
  }
  std::vector<float> resumed = whole;
  AdamW restored(OptionsOf(golden), whole.size());
  restored.Restore(optimizer.num_updates(),
                   {optimizer.first_moment().begin(), optimizer.first_moment().end()},
                   {optimizer.second_moment().begin(), optimizer.second_moment().end()});
  for (int i = 2; i < 5; ++i) {
    const std::vector<float> gradient = golden["gradients"][i];
    optimizer.Update(1e-2, gradient, whole);
    restored.Update(1e-2, gradient, resumed);
  }
  CHECK(whole == resumed);
  CHECK(restored.num_updates() == 5);
}

TEST_CASE("AdamW: a zero gradient and no decay move nothing", "[unit][trainer]") {
  std::vector<float> parameters = {1.0F, -2.0F};
  AdamW optimizer({}, 2);
  optimizer.Update(0.1, std::vector<float>{0.0F, 0.0F}, parameters);
  CHECK(parameters == std::vector<float>{1.0F, -2.0F});
}

TEST_CASE("Clipping: by the norm of everything", "[unit][trainer]") {
  std::vector<float> gradient = {3.0F, 0.0F, 4.0F, 0.0F, 0.0F};
  CHECK(GlobalNorm(gradient) == 5.0);
  CHECK_FALSE(ClipByNorm(5.0, 10.0, gradient));
  CHECK_FALSE(ClipByNorm(5.0, 0.0, gradient));
  CHECK(ClipByNorm(5.0, 1.0, gradient));
  CHECK(GlobalNorm(gradient) == Approx(1.0));
  gradient[4] = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(std::isfinite(GlobalNorm(gradient)));
}

TEST_CASE("Schedule: warm-up, then the shape", "[unit][trainer]") {
  const ScheduleOptions constant = {.warmup_steps = 4, .total_steps = 10};
  CHECK(LearningRateFactor(constant, 1) == 0.25);
  CHECK(LearningRateFactor(constant, 4) == 1.0);
  CHECK(LearningRateFactor(constant, 10) == 1.0);
  const ScheduleOptions linear = {
      .shape = LearningRateShape::kLinear, .warmup_steps = 0, .total_steps = 10};
  CHECK(LearningRateFactor(linear, 1) == 1.0);
  CHECK(LearningRateFactor(linear, 6) == Approx(0.5));
  CHECK(LearningRateFactor(linear, 10) == Approx(0.1));
  const ScheduleOptions cosine = {
      .shape = LearningRateShape::kCosine, .warmup_steps = 2, .total_steps = 12};
  CHECK(LearningRateFactor(cosine, 3) == 1.0);
  CHECK(LearningRateFactor(cosine, 8) == Approx(0.5));
  CHECK(LearningRateFactor(cosine, 12) > 0.0);
  CHECK(LearningRateFactor({.warmup_steps = 20, .total_steps = 10}, 10) == 0.5);
}

}  // namespace
}  // namespace rollcall
