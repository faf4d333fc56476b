#include "rollout_worker/scheduler/fair_share.h"

#include <algorithm>
#include <limits>

#include "services/base/status/status.h"

namespace rollcall {

AccountId FairShare::Account(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found != by_name_.end()) return found->second;
  if (accounts_.size() == kMaxAccounts) return static_cast<AccountId>(kMaxAccounts - 1);
  const auto account = static_cast<AccountId>(accounts_.size());
  accounts_.emplace_back();
  by_name_.emplace(name, account);
  return account;
}

void FairShare::SetWeight(AccountId account, double weight) {
  ROLLCALL_CHECK(weight > 0, "the weight of an account is positive");
  accounts_[account].weight = weight;
}

void FairShare::Begin(AccountId account) {
  State& state = accounts_[account];
  if (state.num_sequences++ > 0) return;
  double smallest = std::numeric_limits<double>::infinity();
  for (const State& other : accounts_) {
    if (&other != &state && other.num_sequences > 0) smallest = std::min(smallest, other.counter);
  }
  if (smallest < std::numeric_limits<double>::infinity()) {
    state.counter = std::max(state.counter, smallest);
  }
}

void FairShare::End(AccountId account) {
  ROLLCALL_CHECK(accounts_[account].num_sequences > 0, "an account ended more than it began");
  --accounts_[account].num_sequences;
}

void FairShare::Book(AccountId account, int32_t num_prompt_tokens, int32_t num_sampled_tokens) {
  State& state = accounts_[account];
  state.counter += (options_.prompt_token_cost * num_prompt_tokens +
                    options_.sampled_token_cost * num_sampled_tokens) /
                   state.weight;
}

bool FairShare::Reevaluate() {
  double smallest = std::numeric_limits<double>::infinity();
  for (const State& state : accounts_) {
    if (state.num_sequences > 0) smallest = std::min(smallest, state.counter);
  }
  bool changed = false;
  for (State& state : accounts_) {
    const bool is_behind = state.num_sequences > 0 && state.counter - smallest > options_.threshold;
    changed |= is_behind != state.is_behind;
    state.is_behind = is_behind;
  }
  return changed;
}

}  // namespace rollcall
