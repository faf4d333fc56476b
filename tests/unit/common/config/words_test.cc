#include "services/common/config/duration_text.h"
#include "services/common/config/job_file.h"
#include "services/common/config/method_parts.h"
#include "services/common/config/nearest_key.h"
#include "services/common/config/preset.h"
#include "services/common/config/spec_checks.h"
#include "tests/support/catch.h"
#include "tests/unit/common/config/sample_jobs.h"

namespace rollcall {
namespace {

TEST_CASE("EditDistance: insertions, deletions, substitutions and swaps cost one each",
          "[unit][config]") {
  CHECK(EditDistance("", "") == 0);
  CHECK(EditDistance("", "abc") == 3);
  CHECK(EditDistance("kitten", "sitting") == 3);
  CHECK(EditDistance("temprature", "temperature") == 1);
  CHECK(EditDistance("laod", "load") == 1);
  CHECK(EditDistance("Max-Steps", "max_steps") == 0);
}

TEST_CASE("NearestWord: near enough, or nothing", "[unit][config]") {
  const std::vector<std::string> keys = {"top_p", "top_k", "temperature", "max_new_tokens"};
  CHECK(NearestWord("temp", keys) == "temperature");
  CHECK(NearestWord("topp", keys) == "top_p");
  CHECK(NearestWord("max_tokens", keys) == "");
  CHECK(NearestWord("max_new_token", keys) == "max_new_tokens");
  CHECK(NearestWord("banana", keys).empty());
  CHECK(NearestWord(std::string(5000, 'x'), keys).empty());
}

TEST_CASE("KeyKnownElsewhereAs: every hint names a key that exists", "[unit][config]") {
  for (const char* name : {"lr", "num_generations", "adv_estimator", "kl_coef", "lam",
                           "max_off_policy_steps", "save_freq", "reward_funcs"}) {
    const std::string key = KeyKnownElsewhereAs(name);
    INFO(name << " -> " << key);
    REQUIRE_FALSE(key.empty());
    const Status status =
        ParseJobFile(testing::kGrpoJob, "job.yaml", "/jobs", {key + "=3"}).status();
    CHECK(Message(status).find("unknown key") == std::string::npos);
  }
  CHECK(KeyKnownElsewhereAs("banana").empty());
}

TEST_CASE("Durations: text and back", "[unit][config]") {
  const auto parsed = [](const char* text) { return ParseDurationText(text).value(); };
  CHECK(parsed("250ms") == absl::Milliseconds(250));
  CHECK(parsed("30s") == absl::Seconds(30));
  CHECK(parsed("1.5m") == absl::Seconds(90));
  CHECK(parsed("2h") == absl::Hours(2));
  CHECK(parsed("1h30m") == absl::Minutes(90));
  CHECK(DurationText(absl::Seconds(300)) == "5m");
  CHECK(DurationText(absl::Seconds(90)) == "1m30s");
  CHECK(DurationText(absl::Milliseconds(3'600'250)) == "1h250ms");
  CHECK(DurationText(absl::ZeroDuration()) == "0s");
  for (const char* bad : {"", "30", "s", "-5s", "5 s", "1e3s", "inf", "5d", "5ss", "99999999h"}) {
    INFO(bad);
    CHECK(ParseDurationText(bad).status().code() == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("Presets: every part that they name exists and fits its needs", "[unit][config]") {
  for (const Preset& preset : Presets()) {
    INFO(preset.name);
    CHECK(FindPart(Advantages(), preset.advantage) != nullptr);
    CHECK(FindPart(Losses(), preset.loss) != nullptr);
    CHECK(FindPart(Aggregations(), preset.aggregation) != nullptr);
    CHECK(FindPart(PairBuilders(), preset.pair_builder) != nullptr);
    CHECK(FindPart(Corrections(), preset.correction) != nullptr);
    CHECK((preset.kl_placement == v1::KlSpec::NONE) == preset.kl_estimator.empty());
    CHECK(FindPreset(preset.name) == &preset);
  }
  CHECK(FindPreset("PPO") == nullptr);
}

TEST_CASE("MethodNeeds: the union of what the parts need", "[unit][config]") {
  const auto needs = [](const char* preset) {
    v1::JobSpec spec;
    ApplyPreset(*FindPreset(preset), &spec);
    return MethodNeeds(spec.algorithm());
  };
  CHECK(needs("sft") == kNeedsCompletions);
  CHECK(needs("dr_grpo") == (kNeedsReward | kNeedsGroup));
  CHECK(needs("grpo") == (kNeedsReward | kNeedsGroup | kNeedsReference));
  CHECK(needs("ppo") == (kNeedsReward | kNeedsCritic | kNeedsReference));
  CHECK(needs("dpo") == (kNeedsPairs | kNeedsReference));
  CHECK(needs("online_dpo") == (kNeedsPairs | kNeedsReference | kNeedsReward | kNeedsGroup));
}

}  // namespace
}  // namespace rollcall
