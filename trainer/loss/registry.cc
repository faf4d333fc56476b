#include "trainer/loss/registry.h"

#include "trainer/batch/find_by_name.h"
#include "trainer/loss/dpo.h"
#include "trainer/loss/nll.h"
#include "trainer/loss/ppo_clip.h"
#include "trainer/loss/reinforce.h"

namespace rollcall {
namespace {

constexpr Objective kObjectives[] = {
    {.name = "nll", .token_loss = NllLoss},
    {.name = "reinforce", .token_loss = ReinforceLoss},
    {.name = "ppo_clip", .token_loss = PpoClipLoss, .metrics = kPpoClipMetrics},
    {.name = "dpo", .pair_loss = DpoLoss, .metrics = kDpoMetrics, .needs_reference = true},
};

}  // namespace

std::span<const Objective> ObjectiveParts() { return kObjectives; }

StatusOr<Objective> FindObjective(std::string_view name) {
  return FindByName(ObjectiveParts(), "algorithm.loss", name);
}

}  // namespace rollcall
