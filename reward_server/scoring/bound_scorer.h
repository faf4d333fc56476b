// A scorer with its name in the cache and in metrics, shared by all jobs with the same settings.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "reward_server/scoring/registry.h"
#include "reward_server/scoring/scorer.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

// Immutable and thread-safe.
class BoundScorer {
 public:
  BoundScorer(const ScorerType& type, std::string identity, std::unique_ptr<const Scorer> scorer);

  // A scorer that needs the answer fails with "no_ground_truth" when there is none. What the scorer
  // throws is the infrastructure failure "internal".
  ScoreResult Score(const ScoreInput& input, absl::Time deadline) const;

  const Scorer& scorer() const { return *scorer_; }
  const std::string& identity() const { return identity_; }
  // Name of the catalogue: a label.
  std::string type_name() const { return std::string(type_.name); }

 private:
  const ScorerType& type_;
  const std::string identity_;
  const std::unique_ptr<const Scorer> scorer_;
};

// Hands out one BoundScorer for each type and settings as long as somebody holds it. Thread-safe.
class ScorerPool {
 public:
  explicit ScorerPool(ScorerEnvironment environment) : environment_(std::move(environment)) {}

  // kInvalidArgument as CheckScorer() and MakeScorer().
  StatusOr<std::shared_ptr<const BoundScorer>> Get(
      const std::string& type, const std::map<std::string, std::string>& options)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  const ScorerEnvironment environment_;
  Mutex mu_;
  std::map<std::string, std::weak_ptr<const BoundScorer>> scorers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rollcall
