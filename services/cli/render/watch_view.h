// What `rollcall watch` shows, as lines of text made from what it has heard.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "rollcall/v1/coordinator.pb.h"
#include "services/cli/render/text.h"

namespace rollcall {

// Collects the events of one job. Repeated and reordered events (after a reconnection) change
// nothing.
class WatchModel {
 public:
  // True when the event says something that was not known: a new step, evaluation, state.
  bool Apply(const v1::JobEvent& event);

  const v1::JobStatus& status() const { return status_; }
  // In the order of steps, without gaps filled.
  const std::vector<v1::StepEvent>& steps() const { return steps_; }
  const std::vector<v1::EvaluationResult>& evaluations() const { return evaluations_; }
  const std::deque<v1::SampleView>& samples() const { return samples_; }
  // Last step heard of, 0 before the first.
  int64_t last_step() const { return steps_.empty() ? 0 : steps_.back().step(); }

  // Steps a second over the last steps; nothing before the second.
  std::optional<double> StepsPerSecond() const;
  // What the coordinator says, or from the rate.
  std::optional<double> SecondsLeft() const;

 private:
  v1::JobStatus status_;
  std::vector<v1::StepEvent> steps_;
  std::vector<v1::EvaluationResult> evaluations_;
  std::deque<v1::SampleView> samples_;
};

bool IsTerminal(v1::JobState state);
// "running"
std::string StateText(v1::JobState state);
Ink StateInk(v1::JobState state);

// The metric that tells whether the job learns: the reward, failing that the accuracy of the
// implicit reward, failing that the loss.
std::string HeadlineMetric(const v1::StepEvent& step);

// The whole screen: title, bar, curve, stages, metrics, evaluations, samples; at most
// style.height - 1 lines, samples and curve giving way first.
std::vector<std::string> WatchScreen(const WatchModel& model, const TerminalStyle& style);

// One plain line for a log: "step 63/150  reward_mean 0.742  loss ...  3.1 steps/s  28 s left".
std::string StepLine(const WatchModel& model, const v1::StepEvent& step);
// "evaluation of version 25: accuracy 61.2 %, mean reward 0.612, 200 samples, 1 failed"
std::string EvaluationLine(const v1::EvaluationResult& evaluation);
// "state running" or "state failed: why"
std::string StateLine(const v1::JobStatus& status);

// Escape sequences that replace the `num_previous` lines above the cursor by these.
std::string Redraw(int num_previous, const std::vector<std::string>& lines);

}  // namespace rollcall
