#include "services/coordinator/experience/trajectory_check.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/unit/coordinator/samples.h"

namespace rollcall::coordinator {
namespace {

using testing::MakeTrajectory;
using testing::TrainSample;

const std::vector<int32_t> kPrompt = {1, 2};

TrajectoryLimits Limits() {
  return {.prompt_token_ids = kPrompt,
          .max_new_tokens = 4,
          .max_observation_tokens = 3,
          .vocab_size = 100,
          .min_version = 2,
          .max_version = 5};
}

v1::Trajectory Good() { return MakeTrajectory(TrainSample(5, 1, 0), 3); }

void AddObservation(v1::Trajectory& trajectory, int num_tokens) {
  v1::Segment& segment = *trajectory.add_segments();
  segment.set_kind(v1::SEGMENT_KIND_OBSERVATION);
  for (int i = 0; i < num_tokens; ++i) segment.add_token_ids(7);
}

TEST_CASE("CheckTrajectory: what a worker should send is accepted", "[unit][coordinator]") {
  CHECK(CheckTrajectory(Good(), Limits()).ok());

  v1::Trajectory turns = Good();
  AddObservation(turns, 3);
  v1::Segment& last = *turns.add_segments();
  last.set_kind(v1::SEGMENT_KIND_POLICY);
  last.set_policy_version(5);
  last.add_token_ids(99);
  last.add_behavior_logprobs(0);  // a certain token
  turns.set_finish_reason(v1::FINISH_REASON_LENGTH);
  CHECK(CheckTrajectory(turns, Limits()).ok());

  // Kept sets of a completion that two versions made: all in its first segment.
  v1::Trajectory restricted = Good();
  *restricted.add_segments() = restricted.segments(0);
  restricted.mutable_segments(1)->mutable_token_ids()->Truncate(1);
  restricted.mutable_segments(1)->mutable_behavior_logprobs()->Truncate(1);
  // All, only token 9, the same again, all.
  restricted.mutable_segments(0)->set_kept_sets(std::string("\0\x05\x09\x07\0", 5));
  TrajectoryLimits needs = Limits();
  needs.needs_kept_sets = true;
  CHECK(CheckTrajectory(restricted, needs).ok());
  CHECK(CheckTrajectory(Good(), needs).code() == StatusCode::kInvalidArgument);
  restricted.mutable_segments(1)->set_kept_sets(std::string(1, '\0'));
  CHECK(Message(CheckTrajectory(restricted, needs)).find("first segment") != std::string::npos);

  v1::Trajectory rounded = Good();
  rounded.mutable_segments(0)->set_behavior_logprobs(0, 1e-6F);
  CHECK(CheckTrajectory(rounded, Limits()).ok());
}

TEST_CASE("CheckTrajectory: each broken trajectory is refused with what is wrong",
          "[unit][coordinator]") {
  struct Case {
    const char* message;
    std::function<void(v1::Trajectory&)> damage;
  };
  const auto segment = [](v1::Trajectory& t) -> v1::Segment& { return *t.mutable_segments(0); };
  const std::vector<Case> cases = {
      {"prompt_token_ids are not those of the lease",
       [](auto& t) { t.set_prompt_token_ids(1, 9); }},
      {"prompt_token_ids are not those of the lease", [](auto& t) { t.add_prompt_token_ids(3); }},
      {"prompt_token_ids are not those of the lease",
       [](auto& t) { t.mutable_prompt_token_ids()->RemoveLast(); }},
      {"segment 0: token 1 has id 100, the vocabulary has 100",
       [&](auto& t) { segment(t).set_token_ids(1, 100); }},
      {"segment 0: token 2 has id -1, the vocabulary has 100",
       [&](auto& t) { segment(t).set_token_ids(2, -1); }},
      {"segment 1: token 0 has id 777, the vocabulary has 100",
       [](auto& t) {
         AddObservation(t, 1);
         t.mutable_segments(1)->set_token_ids(0, 777);
       }},
      {"segment 1: an observation has no log-probabilities",
       [](auto& t) {
         AddObservation(t, 1);
         t.mutable_segments(1)->add_behavior_logprobs(-1);
       }},
      {"segment 0: kind must be policy or observation",
       [&](auto& t) { segment(t).set_kind(v1::SEGMENT_KIND_DATASET); }},
      {"segment 0: kind must be policy or observation",
       [&](auto& t) { segment(t).set_kind(v1::SEGMENT_KIND_UNSPECIFIED); }},
      {"segment 0: kind must be policy or observation",
       [&](auto& t) { segment(t).set_kind(static_cast<v1::SegmentKind>(17)); }},
      {"segment 0: 3 tokens but 2 log-probabilities",
       [&](auto& t) { segment(t).mutable_behavior_logprobs()->RemoveLast(); }},
      {"segment 0: 3 tokens but 4 log-probabilities",
       [&](auto& t) { segment(t).add_behavior_logprobs(-1); }},
      {"segment 0: token 0 has log-probability nan",
       [&](auto& t) { segment(t).set_behavior_logprobs(0, std::nanf("")); }},
      {"segment 0: token 0 has log-probability -inf",
       [&](auto& t) {
         segment(t).set_behavior_logprobs(0, -std::numeric_limits<float>::infinity());
       }},
      {"segment 0: token 2 has log-probability 0.001",
       [&](auto& t) { segment(t).set_behavior_logprobs(2, 0.001F); }},
      {"segment 0: policy version 1 is outside [2, 5]",
       [&](auto& t) { segment(t).set_policy_version(1); }},
      {"segment 0: policy version 6 is outside [2, 5]",
       [&](auto& t) { segment(t).set_policy_version(6); }},
      {"0 tokens were sampled, 1 to 4 are allowed", [](auto& t) { t.clear_segments(); }},
      {"0 tokens were sampled, 1 to 4 are allowed",
       [&](auto& t) {
         segment(t).clear_token_ids();
         segment(t).clear_behavior_logprobs();
       }},
      {"5 tokens were sampled, 1 to 4 are allowed",
       [](auto& t) { t = MakeTrajectory(TrainSample(5, 1, 0), 3, 5); }},
      {"6 tokens were sampled, 1 to 4 are allowed",
       [](auto& t) { *t.add_segments() = t.segments(0); }},
      {"4 observation tokens, at most 3 are allowed",
       [](auto& t) {
         AddObservation(t, 2);
         AddObservation(t, 2);
       }},
      {"finish_reason must be stop or length",
       [](auto& t) { t.set_finish_reason(v1::FINISH_REASON_DATASET); }},
      {"finish_reason must be stop or length", [](auto& t) { t.clear_finish_reason(); }},
  };
  for (const Case& one : cases) {
    v1::Trajectory trajectory = Good();
    one.damage(trajectory);
    const Status status = CheckTrajectory(trajectory, Limits());
    INFO("expected: " << one.message << "\ngot: " << status.ToString());
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(Message(status).find(one.message) != std::string::npos);
  }
}

}  // namespace
}  // namespace rollcall::coordinator
