#include "reward_server/scoring/registry.h"

#include "reward_server/remote/remote_scorer.h"
#include "reward_server/verifier/char_accuracy.h"
#include "reward_server/verifier/exact_match.h"
#include "reward_server/verifier/json_format.h"
#include "reward_server/verifier/length.h"
#include "reward_server/verifier/numeric.h"
#include "reward_server/verifier/regex_match.h"

namespace rollcall {
namespace {

using MadeScorer = StatusOr<std::unique_ptr<const Scorer>>;

struct Registration {
  std::string_view name;
  MadeScorer (*make)(const ScorerOptions& options, const ScorerEnvironment& environment);
};

template <MadeScorer (*kMake)(const ScorerOptions&)>
MadeScorer Local(const ScorerOptions& options, const ScorerEnvironment&) {
  return kMake(options);
}

MadeScorer Remote(const ScorerOptions& options, const ScorerEnvironment& environment) {
  return MakeRemoteScorer(options, environment.tls);
}

constexpr Registration kRegistry[] = {
    {"exact_match", Local<MakeExactMatch>},
    {"numeric", Local<MakeNumeric>},
    {"regex", Local<MakeRegexMatch>},
    {"char_accuracy", Local<MakeCharAccuracy>},
    {"length", Local<MakeLength>},
    {"json_format", Local<MakeJsonFormat>},
    {"remote", Remote},
};

}  // namespace

StatusOr<std::unique_ptr<const Scorer>> MakeScorer(const ScorerOptions& options,
                                                   const ScorerEnvironment& environment) {
  for (const Registration& registration : kRegistry) {
    if (registration.name == options.type().name) return registration.make(options, environment);
  }
  return Unimplemented("this reward server has no scorer '" + std::string(options.type().name) +
                       "'");
}

std::vector<std::string_view> RegisteredScorers() {
  std::vector<std::string_view> names;
  for (const Registration& registration : kRegistry) names.push_back(registration.name);
  return names;
}

}  // namespace rollcall
