#include "services/model/law/logit_edits.h"

#include <vector>

#include "tests/support/catch.h"

namespace rollcall {

TEST_CASE("LogitEdits: worked by hand", "[unit][law]") {
  LogitEdits edits(6);
  const std::vector<int32_t> prompt = {0, 1, 1};
  const std::vector<int32_t> completion = {2, 1, 2};
  const std::vector<float> logits = {2.0F, -2.0F, 4.0F, 1.0F, 0.0F, -1.0F};
  std::vector<float> row = logits;
  edits.Apply({.repetition_penalty = 2.0}, {prompt, completion}, row);
  CHECK(row == std::vector<float>{1.0F, -4.0F, 2.0F, 1.0F, 0.0F, -1.0F});
  std::vector<float> gradient(6, 1.0F);
  edits.Backward(gradient);
  CHECK(gradient == std::vector<float>{0.5F, 2.0F, 0.5F, 1.0F, 1.0F, 1.0F});

  row = logits;
  edits.Apply({.presence_penalty = 0.5, .frequency_penalty = 0.25}, {prompt, completion}, row);
  CHECK(row == std::vector<float>{2.0F, -2.75F, 3.0F, 1.0F, 0.0F, -1.0F});
  gradient.assign(6, 1.0F);
  edits.Backward(gradient);
  CHECK(gradient == std::vector<float>(6, 1.0F));

  row = logits;
  edits.Apply({.logit_bias = {{4, 3.0F}, {5, -1.0F}}}, {prompt, completion}, row);
  CHECK(row == std::vector<float>{2.0F, -2.0F, 4.0F, 1.0F, 3.0F, -2.0F});
}

TEST_CASE("LogitEdits: a row does not see the one before", "[unit][law]") {
  LogitEdits edits(3);
  const std::vector<int32_t> first = {0, 0};
  const std::vector<int32_t> second = {1};
  std::vector<float> row(3, 1.0F);
  edits.Apply({.frequency_penalty = 1.0}, {{}, first}, row);
  CHECK(row == std::vector<float>{-1.0F, 1.0F, 1.0F});
  row.assign(3, 1.0F);
  edits.Apply({.frequency_penalty = 1.0}, {{}, second}, row);
  CHECK(row == std::vector<float>{1.0F, 0.0F, 1.0F});
}

}  // namespace rollcall
