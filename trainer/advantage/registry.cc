#include "trainer/advantage/registry.h"

#include "trainer/advantage/gae.h"
#include "trainer/advantage/group_mean.h"
#include "trainer/advantage/group_norm.h"
#include "trainer/advantage/leave_one_out.h"
#include "trainer/advantage/none.h"
#include "trainer/advantage/return_to_go.h"
#include "trainer/batch/find_by_name.h"

namespace rollcall {
namespace {

constexpr AdvantageEstimator kEstimators[] = {
    {"none", NoAdvantages},
    {"group_norm", GroupNormAdvantages},
    {"group_mean", GroupMeanAdvantages},
    {"leave_one_out", LeaveOneOutAdvantages},
    {"gae", GaeAdvantages, /*needs_critic=*/true},
    {"return_to_go", ReturnToGoAdvantages},
};

}  // namespace

std::span<const AdvantageEstimator> AdvantageParts() { return kEstimators; }

StatusOr<AdvantageEstimator> FindAdvantageEstimator(std::string_view name) {
  return FindByName(AdvantageParts(), "algorithm.advantage", name);
}

}  // namespace rollcall
