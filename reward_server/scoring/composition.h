// The reward of a trajectory from the scores of its scorers.
#pragma once

#include <span>
#include <string>

#include "reward_server/scoring/types.h"

namespace rollcall {

struct Component {
  std::string name;
  double weight = 1.0;
  ScoreResult result = ScoreResult::DataFailure("not_scored", "not scored");
};

// reward = sum of weight x value. One failed component fails the reward: a data failure if there is
// one (another try could not help), else an infrastructure failure; the message names the scorer.
// No component at all is the data failure "no_scorers". Pure.
ScoreResult ComposeReward(std::span<const Component> components);

}  // namespace rollcall
