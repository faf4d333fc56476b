// The objectives by name. A new one is a file here and a line in registry.cc.
#pragma once

#include <span>
#include <string_view>

#include "services/base/status/status.h"
#include "trainer/loss/objective.h"

namespace rollcall {

// Exactly one of the two functions is set: the objective is over tokens or over pairs.
struct Objective {
  std::string_view name;
  TokenLossFn token_loss = nullptr;
  PairLossFn pair_loss = nullptr;
  // Names of ObjectiveResult::sums, in order.
  std::span<const std::string_view> metrics = {};
  bool needs_reference = false;  // even without a KL term
};

std::span<const Objective> ObjectiveParts();

// kInvalidArgument lists the names.
StatusOr<Objective> FindObjective(std::string_view name);

}  // namespace rollcall
