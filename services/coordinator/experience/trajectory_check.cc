#include "services/coordinator/experience/trajectory_check.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "services/model/law/kept_set.h"

namespace rollcall::coordinator {
namespace {

// A log-probability of a certain token may come out this far above zero in float32.
constexpr float kLogprobSlack = 1e-4F;

Status CheckSegment(const v1::Segment& segment, int index, const TrajectoryLimits& limits) {
  const std::string where = "segment " + std::to_string(index) + ": ";
  for (int i = 0; i < segment.token_ids_size(); ++i) {
    const int32_t token = segment.token_ids(i);
    if (token < 0 || token >= limits.vocab_size) {
      return InvalidArgument(where + "token " + std::to_string(i) + " has id " +
                             std::to_string(token) + ", the vocabulary has " +
                             std::to_string(limits.vocab_size));
    }
  }
  if (segment.kind() == v1::SEGMENT_KIND_OBSERVATION) {
    if (!segment.kept_sets().empty()) {
      return InvalidArgument(where + "an observation has no kept sets");
    }
    if (segment.behavior_logprobs_size() != 0) {
      return InvalidArgument(where + "an observation has no log-probabilities");
    }
    return OkStatus();
  }
  if (segment.kind() != v1::SEGMENT_KIND_POLICY) {
    return InvalidArgument(where + "kind must be policy or observation");
  }
  if (segment.behavior_logprobs_size() != segment.token_ids_size()) {
    return InvalidArgument(where + std::to_string(segment.token_ids_size()) + " tokens but " +
                           std::to_string(segment.behavior_logprobs_size()) + " log-probabilities");
  }
  for (int i = 0; i < segment.behavior_logprobs_size(); ++i) {
    const float logprob = segment.behavior_logprobs(i);
    if (!std::isfinite(logprob) || logprob > kLogprobSlack) {
      return InvalidArgument(where + "token " + std::to_string(i) + " has log-probability " +
                             std::to_string(logprob) + ", a finite number <= 0 is right");
    }
  }
  if (segment.policy_version() < limits.min_version ||
      segment.policy_version() > limits.max_version) {
    return InvalidArgument(where + "policy version " + std::to_string(segment.policy_version()) +
                           " is outside [" + std::to_string(limits.min_version) + ", " +
                           std::to_string(limits.max_version) + "]");
  }
  return OkStatus();
}

// Of each completion, which is a run of policy segments.
Status CheckAllKeptSets(const v1::Trajectory& trajectory, const TrajectoryLimits& limits) {
  const auto& segments = trajectory.segments();
  for (int i = 0; i < segments.size();) {
    const int first = i;
    int64_t num_tokens = 0;
    for (; i < segments.size() && segments[i].kind() == v1::SEGMENT_KIND_POLICY; ++i) {
      num_tokens += segments[i].token_ids_size();
      if (i > first && !segments[i].kept_sets().empty()) {
        return InvalidArgument("segment " + std::to_string(i) +
                               ": the kept sets of a completion are in its first segment");
      }
    }
    if (i == first) {
      ++i;
      continue;
    }
    const std::string& codes = segments[first].kept_sets();
    if (codes.empty() && !limits.needs_kept_sets) continue;
    const Status status = CheckKeptSets(codes, num_tokens, limits.vocab_size);
    if (!status.ok()) return Annotate(status, "segment " + std::to_string(first));
  }
  return OkStatus();
}

}  // namespace

Status CheckTrajectory(const v1::Trajectory& trajectory, const TrajectoryLimits& limits) {
  const auto& prompt = trajectory.prompt_token_ids();
  if (!std::equal(prompt.begin(), prompt.end(), limits.prompt_token_ids.begin(),
                  limits.prompt_token_ids.end())) {
    return InvalidArgument("prompt_token_ids are not those of the lease");
  }
  int64_t num_sampled = 0;
  int64_t num_observed = 0;
  for (int i = 0; i < trajectory.segments_size(); ++i) {
    const v1::Segment& segment = trajectory.segments(i);
    ROLLCALL_RETURN_IF_ERROR(CheckSegment(segment, i, limits));
    (segment.kind() == v1::SEGMENT_KIND_POLICY ? num_sampled : num_observed) +=
        segment.token_ids_size();
  }
  if (num_sampled < 1 || num_sampled > limits.max_new_tokens) {
    return InvalidArgument(std::to_string(num_sampled) + " tokens were sampled, 1 to " +
                           std::to_string(limits.max_new_tokens) + " are allowed");
  }
  if (num_observed > limits.max_observation_tokens) {
    return InvalidArgument(std::to_string(num_observed) + " observation tokens, at most " +
                           std::to_string(limits.max_observation_tokens) + " are allowed");
  }
  ROLLCALL_RETURN_IF_ERROR(CheckAllKeptSets(trajectory, limits));
  if (trajectory.finish_reason() != v1::FINISH_REASON_STOP &&
      trajectory.finish_reason() != v1::FINISH_REASON_LENGTH) {
    return InvalidArgument("finish_reason must be stop or length");
  }
  return OkStatus();
}

}  // namespace rollcall::coordinator
