#include "trainer/learner/method.h"

#include <string>

namespace rollcall {
namespace {

Status CheckPairMethod(const AlgorithmOptions& options, const Method& method) {
  const std::string loss = "algorithm.loss " + options.loss + " is over pairs: ";
  if (options.pair_builder == "none") {
    return InvalidArgument(loss + "algorithm.pair_builder must not be none");
  }
  if (method.aggregation != Aggregation::kItemMean) {
    return InvalidArgument(loss + "algorithm.aggregation must be item_mean, not " +
                           options.aggregation);
  }
  if (options.advantage != "none") {
    return InvalidArgument(loss + "algorithm.advantage must be none, not " + options.advantage);
  }
  if (options.correction != "none") {
    return InvalidArgument(loss + "algorithm.correction must be none, not " + options.correction);
  }
  if (method.kl.has_value()) {
    return InvalidArgument(loss + "algorithm.kl.placement must be none");
  }
  if (options.entropy_coefficient != 0) {
    return InvalidArgument(loss + "algorithm.entropy_coefficient must be 0");
  }
  return OkStatus();
}

Status CheckTokenMethod(const AlgorithmOptions& options, const Method& method) {
  const std::string loss = "algorithm.loss " + options.loss + " is over tokens: ";
  if (options.pair_builder != "none") {
    return InvalidArgument(loss + "algorithm.pair_builder must be none, not " +
                           options.pair_builder);
  }
  if (method.aggregation == Aggregation::kItemMean) {
    return InvalidArgument(loss + "algorithm.aggregation item_mean is for pairs");
  }
  return OkStatus();
}

}  // namespace

StatusOr<Method> ResolveMethod(const AlgorithmOptions& options) {
  Method method;
  ROLLCALL_ASSIGN_OR_RETURN(method.advantage, FindAdvantageEstimator(options.advantage));
  ROLLCALL_ASSIGN_OR_RETURN(method.objective, FindObjective(options.loss));
  ROLLCALL_ASSIGN_OR_RETURN(method.aggregation, ParseAggregation(options.aggregation));
  ROLLCALL_ASSIGN_OR_RETURN(method.pair_builder, FindPairBuilder(options.pair_builder));
  ROLLCALL_ASSIGN_OR_RETURN(method.correction, FindCorrection(options.correction));
  if (options.kl_placement != KlPlacement::kNone) {
    ROLLCALL_ASSIGN_OR_RETURN(const KlEstimator estimator, FindKlEstimator(options.kl_estimator));
    if (options.kl_coefficient > 0) {
      method.kl = estimator;
      method.kl_placement = options.kl_placement;
    }
  }
  ROLLCALL_RETURN_IF_ERROR(method.over_pairs() ? CheckPairMethod(options, method)
                                               : CheckTokenMethod(options, method));
  return method;
}

}  // namespace rollcall
