#include "rollout_worker/scheduler/fair_share.h"

#include <algorithm>
#include <array>
#include <string>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {

TEST_CASE("FairShare: tokens are booked by cost and weight", "[unit][scheduler]") {
  FairShare shares({.is_enabled = true});
  const AccountId a = shares.Account("a");
  const AccountId b = shares.Account("b");
  CHECK(shares.Account("a") == a);
  shares.SetWeight(b, 2.0);
  shares.Book(a, 10, 5);
  shares.Book(b, 10, 5);
  CHECK(shares.counter(a) == 20.0);
  CHECK(shares.counter(b) == 10.0);
}

TEST_CASE("FairShare: idleness is not saved up", "[unit][scheduler]") {
  FairShare shares({.is_enabled = true});
  const AccountId busy = shares.Account("busy");
  const AccountId late = shares.Account("late");
  shares.Begin(busy);
  shares.Book(busy, 1000, 0);
  shares.Begin(late);
  CHECK(shares.counter(late) == 1000.0);
}

TEST_CASE("FairShare: whoever is ahead by more than the threshold falls behind",
          "[unit][scheduler]") {
  FairShare shares({.is_enabled = true, .threshold = 100});
  const AccountId a = shares.Account("a");
  const AccountId b = shares.Account("b");
  shares.Begin(a);
  shares.Begin(b);
  shares.Book(a, 100, 0);
  CHECK_FALSE(shares.Reevaluate());
  shares.Book(a, 1, 0);
  CHECK(shares.Reevaluate());
  CHECK(shares.is_behind(a));
  CHECK_FALSE(shares.is_behind(b));
  shares.End(b);  // nobody is waiting for the share any more
  CHECK(shares.Reevaluate());
  CHECK_FALSE(shares.is_behind(a));
}

TEST_CASE("FairShare: names beyond the bound share the last account", "[unit][scheduler]") {
  FairShare shares({});
  for (size_t i = 0; i < FairShare::kMaxAccounts + 10; ++i) shares.Account(std::to_string(i));
  CHECK(shares.num_accounts() == FairShare::kMaxAccounts);
  CHECK(shares.Account("one more") == static_cast<AccountId>(FairShare::kMaxAccounts - 1));
}

}  // namespace rollcall
