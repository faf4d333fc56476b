// Fair shares between accounts (tenants, jobs, evaluation): virtual token counters.
//
// Every token that is computed for an account is booked on its counter, divided by the account's
// weight; the account with the smallest counter is served next. An account that comes back from
// idleness starts at the smallest counter of those that have work: idleness is not saved up. Every
// `interval_steps` the accounts that are ahead of the smallest one by more than `threshold` fall
// behind the others; only then sequences change places, so that fairness costs few context
// switches.
// Source: Sheng et al. 2024, arXiv 2401.00588 (counters and lifting); FastSwitch, arXiv 2411.18424
// (periodic re-evaluation).
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace rollcall {

struct FairShareOptions {
  bool is_enabled = false;
  double prompt_token_cost = 1.0;
  double sampled_token_cost = 2.0;
  double threshold = 4096.0;    // of cost
  int32_t interval_steps = 25;  // of the scheduler
};

using AccountId = int32_t;

// Not thread-safe. Accounts are kept for the lifetime of the object, at most kMaxAccounts by name;
// later names share the last account.
class FairShare {
 public:
  static constexpr size_t kMaxAccounts = 4096;

  explicit FairShare(const FairShareOptions& options) : options_(options) {}

  AccountId Account(const std::string& name);
  // weight > 0: an account of weight 2 gets twice the tokens of one of weight 1.
  void SetWeight(AccountId account, double weight);

  // A sequence of the account begins or ends to have work.
  void Begin(AccountId account);
  void End(AccountId account);
  void Book(AccountId account, int32_t num_prompt_tokens, int32_t num_sampled_tokens);

  // Marks the accounts that are ahead of the smallest active one. True when a mark changed.
  bool Reevaluate();

  bool is_behind(AccountId account) const { return accounts_[account].is_behind; }
  double counter(AccountId account) const { return accounts_[account].counter; }
  size_t num_accounts() const { return accounts_.size(); }
  const FairShareOptions& options() const { return options_; }

 private:
  struct State {
    double counter = 0.0;
    double weight = 1.0;
    int64_t num_sequences = 0;
    bool is_behind = false;
  };

  const FairShareOptions options_;
  std::unordered_map<std::string, AccountId> by_name_;
  std::vector<State> accounts_;
};

}  // namespace rollcall
