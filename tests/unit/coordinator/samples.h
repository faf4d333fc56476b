// Samples that tests of the coordinator start from.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "rollcall/v1/sample.pb.h"
#include "services/coordinator/types.h"

namespace rollcall::testing {

inline coordinator::SampleId TrainSample(int64_t iteration, int64_t prompt_id,
                                         int32_t sample_index) {
  return {1, v1::SAMPLE_PURPOSE_TRAIN, iteration, prompt_id, sample_index};
}

// A prompt of two tokens and `num_tokens` that one version sampled.
inline v1::Trajectory MakeTrajectory(const coordinator::SampleId& id, int64_t version,
                                     int num_tokens = 3) {
  v1::Trajectory trajectory;
  *trajectory.mutable_key() = coordinator::ToKey(id);
  trajectory.add_prompt_token_ids(1);
  trajectory.add_prompt_token_ids(2);
  v1::Segment& segment = *trajectory.add_segments();
  segment.set_kind(v1::SEGMENT_KIND_POLICY);
  segment.set_policy_version(version);
  for (int i = 0; i < num_tokens; ++i) {
    segment.add_token_ids(10 + i);
    segment.add_behavior_logprobs(-0.5F);
  }
  trajectory.set_finish_reason(v1::FINISH_REASON_STOP);
  return trajectory;
}

inline std::shared_ptr<const v1::Trajectory> SharedTrajectory(const coordinator::SampleId& id,
                                                              int64_t version) {
  return std::make_shared<const v1::Trajectory>(MakeTrajectory(id, version));
}

inline std::shared_ptr<const v1::Score> Reward(const coordinator::SampleId& id, double reward) {
  auto score = std::make_shared<v1::Score>();
  *score->mutable_key() = coordinator::ToKey(id);
  score->set_reward(reward);
  return score;
}

inline std::shared_ptr<const v1::Score> Failed(const coordinator::SampleId& id,
                                               const std::string& reason) {
  auto score = std::make_shared<v1::Score>();
  *score->mutable_key() = coordinator::ToKey(id);
  score->mutable_failure()->set_kind(v1::Failure::KIND_DATA);
  score->mutable_failure()->set_reason(reason);
  return score;
}

}  // namespace rollcall::testing
