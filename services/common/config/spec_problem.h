// One thing that is wrong with a job spec.
#pragma once

#include <string>
#include <vector>

namespace rollcall {

struct SpecProblem {
  // Where: "rollout.temperature", "reward.scorers[1].options.pattern".
  std::string path;
  std::string message;
  // Other settings that the judgement rests on. When one of them could not be read, the problem may
  // be only its consequence and is not reported.
  std::vector<std::string> depends_on = {};
};

}  // namespace rollcall
