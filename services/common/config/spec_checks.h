// What a JobSpec must satisfy beyond its syntax, and how its gaps are filled.
#pragma once

#include <vector>

#include "rollcall/v1/job.pb.h"
#include "services/common/config/spec_problem.h"

namespace rollcall {

// Expands the preset and fills every default, so that the spec names all that the job will do.
// With sync.max_staleness above 0 and run.deterministic left out, the job is not deterministic.
std::vector<SpecProblem> ResolveSpec(v1::JobSpec* spec);

// Presence, types and ranges of single settings, by the rules in job.proto.
std::vector<SpecProblem> CheckSettings(const v1::JobSpec& spec);

// The factors of the method are known and fit each other, the data and the reward.
std::vector<SpecProblem> CheckMethod(const v1::JobSpec& spec);

// Counts that must divide, fit or exceed each other.
std::vector<SpecProblem> CheckArithmetic(const v1::JobSpec& spec);

// The three checks, in this order.
std::vector<SpecProblem> CheckSpec(const v1::JobSpec& spec);

// What the chosen parts need, a set of PartNeeds bits. Unknown parts need nothing.
unsigned MethodNeeds(const v1::AlgorithmSpec& algorithm);

// What one optimizer update of a step trains on, before failures: samples for losses over
// samples, rows or pairs otherwise.
int64_t ItemsPerStep(const v1::JobSpec& spec);

// Longest sequence that the learner can meet, in tokens.
int64_t MaxSequenceTokens(const v1::JobSpec& spec);

}  // namespace rollcall
