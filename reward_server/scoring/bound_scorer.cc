#include "reward_server/scoring/bound_scorer.h"

#include <exception>
#include <utility>

namespace rollcall {

BoundScorer::BoundScorer(const ScorerType& type, std::string identity,
                         std::unique_ptr<const Scorer> scorer)
    : type_(type), identity_(std::move(identity)), scorer_(std::move(scorer)) {}

ScoreResult BoundScorer::Score(const ScoreInput& input, absl::Time deadline) const {
  if (type_.needs_answer && !input.answer.has_value()) {
    return ScoreResult::DataFailure("no_ground_truth", "the row has no answer");
  }
  try {
    return scorer_->Score(input, deadline);
  } catch (const std::exception& e) {
    return ScoreResult::InfrastructureFailure("internal", e.what());
  }
}

StatusOr<std::shared_ptr<const BoundScorer>> ScorerPool::Get(
    const std::string& type, const std::map<std::string, std::string>& options) {
  ROLLCALL_ASSIGN_OR_RETURN(const ScorerOptions parsed, ScorerOptions::Parse(type, options));
  std::string identity = parsed.Identity();
  MutexLock lock(mu_);
  std::erase_if(scorers_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<const BoundScorer>& known = scorers_[identity];
  if (std::shared_ptr<const BoundScorer> scorer = known.lock()) return scorer;
  ROLLCALL_ASSIGN_OR_RETURN(auto made, MakeScorer(parsed, environment_));
  auto scorer =
      std::make_shared<const BoundScorer>(parsed.type(), std::move(identity), std::move(made));
  known = scorer;
  return std::shared_ptr<const BoundScorer>(std::move(scorer));
}

}  // namespace rollcall
