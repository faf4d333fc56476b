// The factors that a method is composed of, by name. One table for everybody: job files are checked
// against it, and the learner's registries are tested to hold exactly these names. Plain data, no
// torch and no protobuf.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace rollcall {

// What a part needs from the rest of the job; a set of bits.
enum PartNeeds : unsigned {
  kNeedsNothing = 0,
  kNeedsReward = 1 << 0,       // scored samples of the policy: data.kind prompts, reward.scorers
  kNeedsGroup = 1 << 1,        // at least two samples per prompt
  kNeedsCritic = 1 << 2,       // a value model beside the policy
  kNeedsReference = 1 << 3,    // the frozen initial policy
  kNeedsPairs = 1 << 4,        // chosen and rejected completions, given or built
  kNeedsCompletions = 1 << 5,  // rows with a completion: data.kind completions
};

struct MethodPart {
  std::string_view name;
  unsigned needs;  // of PartNeeds
  std::string_view help;
};

std::span<const MethodPart> Advantages();
std::span<const MethodPart> Losses();
std::span<const MethodPart> Aggregations();
std::span<const MethodPart> PairBuilders();
std::span<const MethodPart> Corrections();
std::span<const MethodPart> KlEstimators();

// Null when the table has no such name.
const MethodPart* FindPart(std::span<const MethodPart> parts, std::string_view name);

// "none, gae or return_to_go": for messages.
std::string PartNames(std::span<const MethodPart> parts);

}  // namespace rollcall
