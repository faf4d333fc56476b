#include "rollout_worker/serving/generator.h"

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "services/base/runtime/clock.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

constexpr auto kPatience = std::chrono::seconds(30);

// Weights that never come; tells that they were asked for.
class WaitingPolicy final : public ServedPolicy {
 public:
  const std::string& job_id() const override { return job_id_; }
  void Acquire(absl::Time, std::function<void(StatusOr<ModelId>)>) override {
    acquired_.set_value();
  }
  void Dropped(ModelId) override {}
  bool WaitUntilAcquired() {
    return acquired_.get_future().wait_for(kPatience) == std::future_status::ready;
  }

 private:
  const std::string job_id_ = "job";
  std::promise<void> acquired_;
};

class Listener final : public GenerationListener {
 public:
  void OnTokens(int32_t, const StreamedTokens&) override {}
  void OnSample(int32_t, const CompletedSample&) override {}
  void OnFailed(const Status& status) override { failed_.set_value(status); }
  Status WaitUntilFailed() {
    auto failed = failed_.get_future();
    if (failed.wait_for(kPatience) != std::future_status::ready)
      return MakeStatus(StatusCode::kUnknown, "nothing failed");
    return failed.get();
  }

 private:
  std::promise<Status> failed_;
};

using Grammar = StatusOr<std::shared_ptr<const TokenGrammar>>;

struct Fixture {
  explicit Fixture(int32_t max_open_samples = 8)
      : generator({.max_open_samples = max_open_samples}, metrics, clock) {
    auto served = std::make_shared<ServedModel>();
    served->policy = policy;
    model = std::move(served);
  }

  GenerationCall Call(std::function<Grammar()> make_grammar) {
    GenerationCall call{.model = model, .arrival = clock.Now()};
    call.deadline = clock.Now() + absl::Seconds(10);
    call.make_grammar = std::move(make_grammar);
    call.listener = listener;
    call.groups.emplace_back().stream_keys = {1};
    return call;
  }

  std::unique_ptr<MetricsRegistry> registry = MakeNullMetrics();
  ServingMetrics metrics{*registry, nullptr};
  ManualClock clock;
  std::shared_ptr<WaitingPolicy> policy = std::make_shared<WaitingPolicy>();
  std::shared_ptr<Listener> listener = std::make_shared<Listener>();
  std::shared_ptr<const ServedModel> model;
  Generator generator;
};

TEST_CASE("Generator: a grammar is made before the weights are asked for, not by the caller") {
  Fixture fixture;
  std::promise<std::thread::id> made;
  REQUIRE_OK(fixture.generator
                 .Start(fixture.Call([&]() -> Grammar {
                   made.set_value(std::this_thread::get_id());
                   return nullptr;
                 }))
                 .status());
  CHECK(fixture.policy->WaitUntilAcquired());
  CHECK(made.get_future().get() != std::this_thread::get_id());
  CHECK(fixture.generator.num_open_samples() == 1);
}

TEST_CASE("Generator: what is wrong with a grammar ends the call") {
  Fixture fixture;
  REQUIRE_OK(fixture.generator
                 .Start(fixture.Call([]() -> Grammar { return InvalidArgument("no such rule"); }))
                 .status());
  const Status failed = fixture.listener->WaitUntilFailed();
  CHECK(failed.code() == StatusCode::kInvalidArgument);
  CHECK(Message(failed) == "no such rule");
  CHECK(fixture.generator.num_open_samples() == 0);
}

TEST_CASE("Generator: nothing is compiled for a call that is late or gone") {
  Fixture fixture;
  std::promise<void> begun;
  std::promise<void> go_on;
  REQUIRE_OK(fixture.generator
                 .Start(fixture.Call([&]() -> Grammar {
                   begun.set_value();
                   go_on.get_future().wait_for(kPatience);
                   return nullptr;
                 }))
                 .status());
  REQUIRE(begun.get_future().wait_for(kPatience) == std::future_status::ready);
  int num_made = 0;
  const auto count = [&num_made]() -> Grammar {
    ++num_made;
    return nullptr;
  };
  // Both wait for the first one.
  REQUIRE_OK_AND_ASSIGN(const uint64_t gone, fixture.generator.Start(fixture.Call(count)));
  fixture.generator.Abort(gone);
  REQUIRE_OK(fixture.generator.Start(fixture.Call(count)).status());
  CHECK(fixture.generator.num_open_samples() == 2);
  fixture.clock.Advance(absl::Seconds(10));
  go_on.set_value();
  CHECK(fixture.listener->WaitUntilFailed().code() == StatusCode::kDeadlineExceeded);
  fixture.generator.Stop();
  CHECK(num_made == 0);
}

TEST_CASE("Generator: calls that are gone count while they wait for their grammar's turn") {
  Fixture fixture(1);
  std::promise<void> begun;
  std::promise<void> go_on;
  REQUIRE_OK_AND_ASSIGN(const uint64_t first,
                        fixture.generator.Start(fixture.Call([&]() -> Grammar {
                          begun.set_value();
                          go_on.get_future().wait_for(kPatience);
                          return nullptr;
                        })));
  REQUIRE(begun.get_future().wait_for(kPatience) == std::future_status::ready);
  fixture.generator.Abort(first);
  const auto none = []() -> Grammar { return nullptr; };
  REQUIRE_OK_AND_ASSIGN(const uint64_t second, fixture.generator.Start(fixture.Call(none)));
  fixture.generator.Abort(second);
  // The queue has one place.
  REQUIRE_OK(fixture.generator.Start(fixture.Call(none)).status());
  CHECK(fixture.listener->WaitUntilFailed().code() == StatusCode::kResourceExhausted);
  CHECK(fixture.generator.num_open_samples() == 0);
  go_on.set_value();
}

}  // namespace
}  // namespace rollcall
