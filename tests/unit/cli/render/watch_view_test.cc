#include "services/cli/render/watch_view.h"

#include "services/cli/render/sample_view.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

v1::JobEvent StatusEvent(v1::JobState state, int64_t step, const std::string& reason = "") {
  v1::JobEvent event;
  v1::JobStatus& status = *event.mutable_status();
  status.set_job_id("add-7");
  status.set_name("add");
  status.set_state(state);
  status.set_state_reason(reason);
  status.set_step(step);
  status.set_total_steps(100);
  return event;
}

v1::JobEvent StepAt(int64_t step, double reward, int64_t seconds) {
  v1::JobEvent event;
  event.mutable_step()->set_step(step);
  event.mutable_step()->mutable_time()->set_seconds(seconds);
  (*event.mutable_step()->mutable_metrics())["reward_mean"] = reward;
  (*event.mutable_step()->mutable_metrics())["loss"] = 0.125;
  return event;
}

v1::JobEvent EvaluationAt(int64_t version, double accuracy) {
  v1::JobEvent event;
  event.mutable_evaluation()->set_policy_version(version);
  event.mutable_evaluation()->set_accuracy(accuracy);
  event.mutable_evaluation()->set_mean_reward(accuracy);
  event.mutable_evaluation()->set_num_samples(200);
  return event;
}

v1::SampleView SampleOf(const std::string& prompt, const std::string& completion) {
  v1::SampleView sample;
  sample.set_prompt_text(prompt);
  sample.set_completion_text(completion);
  sample.set_reward(1);
  return sample;
}

WatchModel HalfDone() {
  WatchModel model;
  model.Apply(StatusEvent(v1::JOB_STATE_RUNNING, 0));
  for (int i = 1; i <= 50; ++i) model.Apply(StepAt(i, i / 50.0, 1000 + i / 2));
  model.Apply(EvaluationAt(0, 0.125));
  model.Apply(EvaluationAt(25, 0.5));
  v1::JobEvent sample;
  *sample.mutable_sample() = SampleOf("sort 312:", "123\n\x1b[2J");
  model.Apply(sample);
  return model;
}

TEST_CASE("WatchModel: what is heard twice or late changes nothing", "[unit][cli]") {
  WatchModel model;
  CHECK(model.Apply(StatusEvent(v1::JOB_STATE_QUEUED, 0)));
  CHECK_FALSE(model.Apply(StatusEvent(v1::JOB_STATE_QUEUED, 0)));
  CHECK(model.Apply(StatusEvent(v1::JOB_STATE_RUNNING, 0)));
  CHECK(model.Apply(StepAt(1, 0.1, 10)));
  CHECK(model.Apply(StepAt(3, 0.3, 12)));
  CHECK_FALSE(model.Apply(StepAt(1, 0.1, 10)));
  CHECK(model.Apply(StepAt(2, 0.2, 11)));
  REQUIRE(model.steps().size() == 3);
  CHECK(model.steps()[1].step() == 2);
  CHECK(model.last_step() == 3);
  CHECK(model.status().step() == 3);

  CHECK(model.Apply(EvaluationAt(0, 0.1)));
  CHECK_FALSE(model.Apply(EvaluationAt(0, 0.1)));
  // The status repeats the evaluations.
  v1::JobEvent status = StatusEvent(v1::JOB_STATE_RUNNING, 3);
  *status.mutable_status()->add_evaluations() = EvaluationAt(0, 0.1).evaluation();
  *status.mutable_status()->add_evaluations() = EvaluationAt(5, 0.2).evaluation();
  model.Apply(status);
  CHECK(model.evaluations().size() == 2);
  CHECK_FALSE(model.Apply(v1::JobEvent()));
}

TEST_CASE("WatchModel: rate over the last steps, time left from it", "[unit][cli]") {
  WatchModel model;
  model.Apply(StatusEvent(v1::JOB_STATE_RUNNING, 0));
  CHECK_FALSE(model.StepsPerSecond().has_value());
  model.Apply(StepAt(1, 0, 100));
  CHECK_FALSE(model.StepsPerSecond().has_value());
  model.Apply(StepAt(2, 0, 100));
  CHECK_FALSE(model.StepsPerSecond().has_value());  // no time has passed
  model.Apply(StepAt(11, 0, 105));
  CHECK(*model.StepsPerSecond() == Approx(2.0));
  CHECK(*model.SecondsLeft() == Approx(44.5));
  v1::JobEvent told = StatusEvent(v1::JOB_STATE_RUNNING, 11);
  told.mutable_status()->set_seconds_left(7);
  model.Apply(told);
  CHECK(*model.SecondsLeft() == 7);
}

TEST_CASE("WatchScreen: bar, curve, metrics, evaluations, samples", "[unit][cli]") {
  const WatchModel model = HalfDone();
  const std::vector<std::string> lines =
      WatchScreen(model, {.width = 80, .height = 24, .color = false});
  REQUIRE(lines.size() == 14);
  CHECK(lines[0] == "add-7  running");
  CHECK(lines[1].find("50 %  step 50/100  1.9 steps/s  26 s left") != std::string::npos);
  CHECK(lines[2] == "reward_mean, steps 1 to 50");
  CHECK(lines[3].find("       1 ┤") == 0);
  CHECK(lines[10].find("    0.02 ┤") == 0);
  CHECK(lines[11] == "reward_mean 1  loss 0.125");
  CHECK(lines[12] == "held-out accuracy: v0 12.5 %  v25 50.0 %");
  CHECK(lines[13] == "  sort 312: → 123\\n\\x1b[2J  1");
}

TEST_CASE("WatchScreen: fits every window", "[unit][cli]") {
  WatchModel model = HalfDone();
  for (int i = 26; i < 60; ++i) model.Apply(EvaluationAt(i, 0.5));
  for (const int width : {20, 33, 80, 200}) {
    for (const int height : {6, 9, 24, 60}) {
      for (const bool color : {false, true}) {
        INFO(width << "x" << height);
        const std::vector<std::string> lines =
            WatchScreen(model, {.width = width, .height = height, .color = color});
        CHECK(static_cast<int>(lines.size()) < height);
        for (const std::string& line : lines) {
          INFO(line);
          CHECK(DisplayWidth(line) <= width);
          CHECK((color || line.find('\x1b') == std::string::npos));
        }
      }
    }
  }
}

TEST_CASE("WatchScreen: an empty model shows something, too", "[unit][cli]") {
  const std::vector<std::string> lines =
      WatchScreen(WatchModel(), {.width = 60, .height = 24, .color = false});
  REQUIRE(lines.size() == 2);
  CHECK(lines[1].find("0 %  step 0/0") != std::string::npos);
}

TEST_CASE("Plain lines: one for each step, evaluation and state", "[unit][cli]") {
  const WatchModel model = HalfDone();
  CHECK(StepLine(model, model.steps().back()) ==
        "step 50/100  reward_mean 1  loss 0.125  1.9 steps/s  26 s left");
  v1::EvaluationResult evaluation = EvaluationAt(25, 0.612).evaluation();
  evaluation.set_num_failed(1);
  CHECK(EvaluationLine(evaluation) ==
        "evaluation of version 25: accuracy 61.2 %, mean reward 0.612, 200 samples, 1 failed");
  CHECK(StateLine(StatusEvent(v1::JOB_STATE_FAILED, 3, "disk\nfull").status()) ==
        "state failed: disk\\nfull");
}

TEST_CASE("HeadlineMetric: the reward, failing that the next best", "[unit][cli]") {
  v1::StepEvent step;
  (*step.mutable_metrics())["loss"] = 1;
  CHECK(HeadlineMetric(step) == "loss");
  (*step.mutable_metrics())["reward_accuracy"] = 1;
  CHECK(HeadlineMetric(step) == "reward_accuracy");
  (*step.mutable_metrics())["reward_mean"] = 1;
  CHECK(HeadlineMetric(step) == "reward_mean");
}

TEST_CASE("Redraw: goes up over what was drawn and erases the rest", "[unit][cli]") {
  CHECK(Redraw(0, {"a"}) == "\ra\x1b[K\n\x1b[J");
  CHECK(Redraw(3, {"a", "b"}) == "\x1b[3A\ra\x1b[K\nb\x1b[K\n\x1b[J");
}

TEST_CASE("SampleLines: tokens with log-probabilities and versions, scores and failures",
          "[unit][cli]") {
  v1::SampleView sample = SampleOf("sort 21:", "12");
  sample.set_state(v1::SAMPLE_STATE_CONSUMED);
  sample.set_step(4);
  v1::Trajectory& trajectory = *sample.mutable_trajectory();
  trajectory.mutable_key()->set_prompt_id(17);
  trajectory.mutable_key()->set_sample_index(2);
  trajectory.mutable_key()->set_iteration(3);
  trajectory.set_finish_reason(v1::FINISH_REASON_STOP);
  trajectory.set_worker_id("w1-3");
  trajectory.set_seconds(0.25);
  v1::Segment& segment = *trajectory.add_segments();
  segment.set_kind(v1::SEGMENT_KIND_POLICY);
  segment.set_policy_version(3);
  for (const int token : {49, 50, 256}) segment.add_token_ids(token);
  for (const float logprob : {-0.5F, -0.25F, -0.125F}) segment.add_behavior_logprobs(logprob);
  v1::ComponentScore& good = *sample.mutable_score()->add_components();
  good.set_name("exact_match");
  good.set_value(1);
  v1::ComponentScore& bad = *sample.mutable_score()->add_components();
  bad.set_name("judge");
  bad.mutable_failure()->set_kind(v1::Failure::KIND_INFRASTRUCTURE);
  bad.mutable_failure()->set_reason("timeout");
  bad.mutable_failure()->set_message("no answer in 10 s");
  CHECK(SampleLines(sample, {.width = 48, .color = false}) ==
        std::vector<std::string>{
            "prompt 17 sample 2 of iteration 3: trained, in step 4",
            "  prompt      sort 21:",
            "  completion  12",
            "  reward      1",
            "    exact_match     1",
            "    judge           infrastructure failure timeout: no answer in 10 s",
            "  finish      stopped by itself, by w1-3 in 0.2 s",
            "  version 3   49 -0.5000  50 -0.2500",
            "              256 -0.1250",
        });
}

}  // namespace
}  // namespace rollcall
