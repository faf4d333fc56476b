#include "services/cli/render/watch_view.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "services/cli/render/bar.h"
#include "services/cli/render/curve.h"

namespace rollcall {
namespace {

constexpr size_t kMaxSamples = 8;
constexpr size_t kRateSteps = 20;

double Seconds(const google::protobuf::Timestamp& time) {
  return static_cast<double>(time.seconds()) + time.nanos() * 1e-9;
}

std::optional<double> Metric(const v1::StepEvent& step, const std::string& name) {
  const auto found = step.metrics().find(name);
  if (found == step.metrics().end() || !std::isfinite(found->second)) return std::nullopt;
  return found->second;
}

double Fraction(const v1::JobStatus& status) {
  return status.total_steps() > 0
             ? static_cast<double>(status.step()) / static_cast<double>(status.total_steps())
             : 0;
}

// "a  b  c" cut before the item that would not fit.
std::string JoinFitting(const std::vector<std::string>& items, int width) {
  std::string line;
  for (const std::string& item : items) {
    const int needed = DisplayWidth(line) + (line.empty() ? 0 : 2) + DisplayWidth(item);
    if (needed > width) break;
    line += (line.empty() ? "" : "  ") + item;
  }
  return line;
}

std::string RateText(const WatchModel& model) {
  std::string text;
  if (const std::optional<double> rate = model.StepsPerSecond(); rate.has_value()) {
    text += *rate >= 1 || *rate <= 0 ? fmt::format("{:.1f} steps/s", *rate)
                                     : fmt::format("{} a step", HumanSeconds(1 / *rate));
  }
  if (const std::optional<double> left = model.SecondsLeft();
      left.has_value() && !IsTerminal(model.status().state())) {
    text += (text.empty() ? "" : "  ") + HumanSeconds(*left) + " left";
  }
  return text;
}

std::string TitleLine(const WatchModel& model, const TerminalStyle& style) {
  const v1::JobStatus& status = model.status();
  std::string line = Paint(style, Ink::kBold, OneLine(status.job_id())) + "  " +
                     Paint(style, StateInk(status.state()), StateText(status.state()));
  if (status.learners_wanted() > 0 && status.learners_present() < status.learners_wanted() &&
      !IsTerminal(status.state())) {
    line += fmt::format("  {} of {} learners", status.learners_present(), status.learners_wanted());
  }
  if (!status.state_reason().empty()) line += "  " + OneLine(status.state_reason());
  return Truncate(line, style.width);
}

std::string BarLine(const WatchModel& model, const TerminalStyle& style) {
  const v1::JobStatus& status = model.status();
  std::string tail = fmt::format(" {:3.0f} %  step {}/{}", Fraction(status) * 100, status.step(),
                                 status.total_steps());
  if (const std::string rate = RateText(model); !rate.empty()) tail += "  " + rate;
  const int width = std::clamp(style.width - DisplayWidth(tail), 0, 60);
  return Truncate(Paint(style, Ink::kGreen, ProgressBar(Fraction(status), width)) + tail,
                  style.width);
}

std::vector<std::string> CurveLines(const WatchModel& model, const TerminalStyle& style,
                                    int height) {
  if (model.steps().size() < 2 || height < 2) return {};
  const std::string name = HeadlineMetric(model.steps().back());
  std::vector<double> values;
  for (const v1::StepEvent& step : model.steps()) {
    values.push_back(Metric(step, name).value_or(std::nan("")));
  }
  std::vector<std::string> lines =
      Curve(values, {.width = std::min(style.width, 100), .height = height});
  for (std::string& line : lines) line = Paint(style, Ink::kCyan, line);
  if (!lines.empty()) {
    lines.insert(lines.begin(),
                 Truncate(fmt::format("{}, steps {} to {}", OneLine(name),
                                      model.steps().front().step(), model.last_step()),
                          style.width));
  }
  return lines;
}

std::string StagesLine(const v1::JobStatus& status, const TerminalStyle& style) {
  double total = 0;
  for (const v1::StageTime& stage : status.stages()) total += stage.busy_seconds();
  if (!(total > 0)) return "";
  std::vector<std::string> items = {"busy:"};
  for (const v1::StageTime& stage : status.stages()) {
    items.push_back(
        fmt::format("{} {:.0f} %", OneLine(stage.stage()), stage.busy_seconds() / total * 100));
  }
  return JoinFitting(items, style.width);
}

std::vector<std::string> MetricItems(const v1::StepEvent& step) {
  static constexpr std::array kShown = {"reward_mean",
                                        "reward_accuracy",
                                        "reward_margin",
                                        "loss",
                                        "kl",
                                        "entropy",
                                        "grad_norm",
                                        "clip_fraction",
                                        "value_loss",
                                        "lr",
                                        "staleness_max",
                                        "truncated_share",
                                        "completion_tokens_mean",
                                        "logprob_gap_max",
                                        "tokens_per_second"};
  std::vector<std::string> items;
  for (const char* name : kShown) {
    const std::optional<double> value = Metric(step, name);
    if (value.has_value()) items.push_back(fmt::format("{} {}", name, HumanNumber(*value)));
  }
  return items;
}

std::string EvaluationsLine(const WatchModel& model, const TerminalStyle& style) {
  if (model.evaluations().empty()) return "";
  std::vector<std::string> items;
  for (const v1::EvaluationResult& evaluation : model.evaluations()) {
    items.push_back(
        fmt::format("v{} {}", evaluation.policy_version(), HumanShare(evaluation.accuracy())));
  }
  // The first and as many of the newest as fit.
  const std::string head = "held-out accuracy: " + items.front();
  std::string tail;
  for (size_t i = items.size() - 1; i > 0; --i) {
    const std::string longer = "  " + items[i] + tail;
    if (DisplayWidth(head) + DisplayWidth(longer) > style.width - 3) {
      tail = "  …" + tail;
      break;
    }
    tail = longer;
  }
  return Truncate(head + tail, style.width);
}

std::string SampleLine(const v1::SampleView& sample, const TerminalStyle& style) {
  const bool is_given = sample.trajectory().finish_reason() == v1::FINISH_REASON_DATASET;
  std::string reward = is_given ? "" : "  no score";
  if (sample.has_reward()) reward = "  " + HumanNumber(sample.reward());
  if (sample.score().has_failure()) reward = "  " + OneLine(sample.score().failure().reason());
  const int room = std::max(8, style.width - DisplayWidth(reward) - 6);
  const std::string prompt = Truncate(OneLine(sample.prompt_text()), room / 2);
  const std::string completion =
      Truncate(OneLine(sample.completion_text()), room - DisplayWidth(prompt));
  return Truncate("  " + Paint(style, Ink::kDim, prompt) + " → " + completion +
                      Paint(style, Ink::kYellow, reward),
                  style.width);
}

}  // namespace

bool WatchModel::Apply(const v1::JobEvent& event) {
  switch (event.event_case()) {
    case v1::JobEvent::kStatus: {
      const bool is_news = status_.state() != event.status().state() ||
                           status_.state_reason() != event.status().state_reason();
      status_ = event.status();
      for (const v1::EvaluationResult& evaluation : status_.evaluations()) {
        v1::JobEvent one;
        *one.mutable_evaluation() = evaluation;
        Apply(one);
      }
      return is_news;
    }
    case v1::JobEvent::kStep: {
      const v1::StepEvent& step = event.step();
      const auto place = std::lower_bound(
          steps_.begin(), steps_.end(), step.step(),
          [](const v1::StepEvent& known, int64_t number) { return known.step() < number; });
      if (place != steps_.end() && place->step() == step.step()) return false;
      steps_.insert(place, step);
      status_.set_step(std::max(status_.step(), step.step()));
      return true;
    }
    case v1::JobEvent::kEvaluation: {
      const v1::EvaluationResult& evaluation = event.evaluation();
      const auto place =
          std::lower_bound(evaluations_.begin(), evaluations_.end(), evaluation.policy_version(),
                           [](const v1::EvaluationResult& known, int64_t version) {
                             return known.policy_version() < version;
                           });
      if (place != evaluations_.end() && place->policy_version() == evaluation.policy_version()) {
        return false;
      }
      evaluations_.insert(place, evaluation);
      return true;
    }
    case v1::JobEvent::kSample:
      samples_.push_front(event.sample());
      if (samples_.size() > kMaxSamples) samples_.pop_back();
      return true;
    case v1::JobEvent::EVENT_NOT_SET:
      break;
  }
  return false;
}

std::optional<double> WatchModel::StepsPerSecond() const {
  if (steps_.size() < 2) return std::nullopt;
  const v1::StepEvent& first = steps_[steps_.size() - std::min(steps_.size(), kRateSteps)];
  const double seconds = Seconds(steps_.back().time()) - Seconds(first.time());
  if (!(seconds > 0)) return std::nullopt;
  return static_cast<double>(steps_.back().step() - first.step()) / seconds;
}

std::optional<double> WatchModel::SecondsLeft() const {
  if (status_.has_seconds_left()) return status_.seconds_left();
  const std::optional<double> rate = StepsPerSecond();
  if (!rate.has_value() || *rate <= 0) return std::nullopt;
  return static_cast<double>(status_.total_steps() - status_.step()) / *rate;
}

bool IsTerminal(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

std::string StateText(v1::JobState state) {
  switch (state) {
    case v1::JOB_STATE_QUEUED:
      return "queued";
    case v1::JOB_STATE_RUNNING:
      return "running";
    case v1::JOB_STATE_PAUSED:
      return "paused";
    case v1::JOB_STATE_SUCCEEDED:
      return "succeeded";
    case v1::JOB_STATE_FAILED:
      return "failed";
    case v1::JOB_STATE_CANCELLED:
      return "cancelled";
    default:
      return "unknown";
  }
}

Ink StateInk(v1::JobState state) {
  switch (state) {
    case v1::JOB_STATE_RUNNING:
      return Ink::kCyan;
    case v1::JOB_STATE_SUCCEEDED:
      return Ink::kGreen;
    case v1::JOB_STATE_FAILED:
      return Ink::kRed;
    case v1::JOB_STATE_QUEUED:
    case v1::JOB_STATE_PAUSED:
    case v1::JOB_STATE_CANCELLED:
      return Ink::kYellow;
    default:
      return Ink::kPlain;
  }
}

std::string HeadlineMetric(const v1::StepEvent& step) {
  for (const char* name : {"reward_mean", "reward_accuracy"}) {
    if (step.metrics().count(name) > 0) return name;
  }
  return "loss";
}

std::vector<std::string> WatchScreen(const WatchModel& model, const TerminalStyle& style) {
  std::vector<std::string> lines = {TitleLine(model, style), BarLine(model, style)};
  std::vector<std::string> below;
  if (const std::string stages = StagesLine(model.status(), style); !stages.empty()) {
    below.push_back(stages);
  }
  if (!model.steps().empty()) {
    const std::string metrics = JoinFitting(MetricItems(model.steps().back()), style.width);
    if (!metrics.empty()) below.push_back(metrics);
  }
  if (const std::string evaluations = EvaluationsLine(model, style); !evaluations.empty()) {
    below.push_back(evaluations);
  }
  const int room = std::max(0, style.height - 1 - static_cast<int>(lines.size() + below.size()));
  const int num_samples = std::min<int>({static_cast<int>(model.samples().size()), 4, room / 3});
  const std::vector<std::string> curve =
      CurveLines(model, style, std::min(8, room - num_samples - 1));
  lines.insert(lines.end(), curve.begin(), curve.end());
  lines.insert(lines.end(), below.begin(), below.end());
  for (int i = 0; i < num_samples; ++i) lines.push_back(SampleLine(model.samples()[i], style));
  return lines;
}

std::string StepLine(const WatchModel& model, const v1::StepEvent& step) {
  std::string line = fmt::format("step {}/{}", step.step(), model.status().total_steps());
  for (const std::string& item : MetricItems(step)) line += "  " + item;
  if (const std::string rate = RateText(model); !rate.empty()) line += "  " + rate;
  return line;
}

std::string EvaluationLine(const v1::EvaluationResult& evaluation) {
  std::string line =
      fmt::format("evaluation of version {}: accuracy {}, mean reward {}, {} samples",
                  evaluation.policy_version(), HumanShare(evaluation.accuracy()),
                  HumanNumber(evaluation.mean_reward()), evaluation.num_samples());
  if (evaluation.num_failed() > 0) line += fmt::format(", {} failed", evaluation.num_failed());
  return line;
}

std::string StateLine(const v1::JobStatus& status) {
  std::string line = "state " + StateText(status.state());
  if (!status.state_reason().empty()) line += ": " + OneLine(status.state_reason());
  return line;
}

std::string Redraw(int num_previous, const std::vector<std::string>& lines) {
  std::string out;
  if (num_previous > 0) out += fmt::format("\x1b[{}A", num_previous);
  out += "\r";
  for (const std::string& line : lines) out += line + "\x1b[K\n";
  out += "\x1b[J";
  return out;
}

}  // namespace rollcall
