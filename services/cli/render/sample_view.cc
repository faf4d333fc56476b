#include "services/cli/render/sample_view.h"

#include <fmt/format.h>

namespace rollcall {
namespace {

std::string SampleStateText(v1::SampleState state) {
  switch (state) {
    case v1::SAMPLE_STATE_PENDING:
      return "pending";
    case v1::SAMPLE_STATE_LEASED:
      return "leased";
    case v1::SAMPLE_STATE_GENERATED:
      return "generated";
    case v1::SAMPLE_STATE_SCORING:
      return "scoring";
    case v1::SAMPLE_STATE_SCORED:
      return "scored";
    case v1::SAMPLE_STATE_BATCHED:
      return "in a batch";
    case v1::SAMPLE_STATE_CONSUMED:
      return "trained";
    case v1::SAMPLE_STATE_FAILED:
      return "failed";
    case v1::SAMPLE_STATE_EXPIRED:
      return "expired";
    default:
      return "unknown state";
  }
}

std::string FinishText(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stopped by itself";
    case v1::FINISH_REASON_LENGTH:
      return "cut at the token limit";
    case v1::FINISH_REASON_DATASET:
      return "from the data set";
    default:
      return "not finished";
  }
}

std::string FailureText(const v1::Failure& failure) {
  const char* kind = failure.kind() == v1::Failure::KIND_INFRASTRUCTURE ? "infrastructure"
                     : failure.kind() == v1::Failure::KIND_DATA         ? "data"
                                                                        : "unknown";
  std::string text = fmt::format("{} failure {}", kind, OneLine(failure.reason()));
  if (!failure.message().empty()) text += ": " + OneLine(failure.message());
  return text;
}

// Items joined by two spaces over as many lines as they need.
void AddWrapped(const std::string& label, const std::vector<std::string>& items,
                const TerminalStyle& style, std::vector<std::string>* lines) {
  std::string line = label;
  for (const std::string& item : items) {
    if (DisplayWidth(line) + 2 + DisplayWidth(item) > style.width && line.size() > label.size()) {
      line.erase(line.find_last_not_of(' ') + 1);
      lines->push_back(line);
      line = std::string(DisplayWidth(label), ' ');
    }
    line += item + "  ";
  }
  line.erase(line.find_last_not_of(' ') + 1);
  lines->push_back(line);
}

}  // namespace

std::vector<std::string> SampleLines(const v1::SampleView& sample, const TerminalStyle& style) {
  const v1::Trajectory& trajectory = sample.trajectory();
  const v1::SampleKey& key = trajectory.key();
  std::vector<std::string> lines;
  std::string title =
      fmt::format("prompt {} sample {} of iteration {}: {}", key.prompt_id(), key.sample_index(),
                  key.iteration(), SampleStateText(sample.state()));
  if (key.purpose() == v1::SAMPLE_PURPOSE_EVALUATE) title += ", evaluation";
  if (sample.step() > 0) title += fmt::format(", in step {}", sample.step());
  lines.push_back(Paint(style, Ink::kBold, title));
  lines.push_back("  prompt      " + OneLine(sample.prompt_text()));
  lines.push_back("  completion  " + OneLine(sample.completion_text()));

  std::string reward = sample.has_reward() ? HumanNumber(sample.reward()) : "none";
  if (sample.score().has_failure()) reward = FailureText(sample.score().failure());
  lines.push_back("  reward      " + Paint(style, Ink::kYellow, reward));
  for (const v1::ComponentScore& component : sample.score().components()) {
    lines.push_back(fmt::format("    {}  {}", PadRight(OneLine(component.name()), 14),
                                component.has_failure() ? FailureText(component.failure())
                                                        : HumanNumber(component.value())));
  }
  if (trajectory.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    lines.push_back(
        fmt::format("  finish      {}, by {} in {}", FinishText(trajectory.finish_reason()),
                    OneLine(trajectory.worker_id()), HumanSeconds(trajectory.seconds())));
  }
  for (const v1::Segment& segment : trajectory.segments()) {
    std::vector<std::string> tokens;
    for (int i = 0; i < segment.token_ids_size(); ++i) {
      tokens.push_back(
          i < segment.behavior_logprobs_size()
              ? fmt::format("{} {:.4f}", segment.token_ids(i), segment.behavior_logprobs(i))
              : std::to_string(segment.token_ids(i)));
    }
    const bool is_sampled = segment.kind() == v1::SEGMENT_KIND_POLICY;
    AddWrapped("  " + PadRight(is_sampled ? fmt::format("version {}", segment.policy_version())
                               : segment.kind() == v1::SEGMENT_KIND_OBSERVATION ? "observed"
                                                                                : "data set",
                               12),
               tokens, style, &lines);
  }
  return lines;
}

}  // namespace rollcall
