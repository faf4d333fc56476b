// Single decisions of the core; what follows from many of them is in tests/sim.
#include "services/coordinator/core.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/unit/coordinator/jobs.h"
#include "tests/unit/coordinator/recorders.h"
#include "tests/unit/coordinator/samples.h"

namespace rollcall::coordinator {
namespace {

using testing::MakeTrajectory;
using testing::TrainSample;

// Everything is durable at once.
class OpenJournal final : public Journal {
 public:
  void Append(std::vector<Record>, std::function<void()>) override {}
  void Read(std::function<void(SqliteStore&)>) override {}
  bool congested() const override { return is_congested; }
  bool is_congested = false;
};

// What a call was answered, if it was.
template <typename Response>
struct Answered {
  std::optional<Status> status;
  Response response;
  Call<Response> call() {
    return {.reply = [this](const Status& s, Response r) {
      CHECK_FALSE(status.has_value());
      status = s;
      response = std::move(r);
    }};
  }
};

class World {
 public:
  explicit World(v1::JobSpec spec = testing::SmallJobSpec()) {
    auto prepared = testing::SmallPreparedJob(std::move(spec));
    Answered<v1::SubmitJobResponse> answer;
    Do([&](Core& one, Turn& turn) {
      one.AddJob(turn, testing::SmallJobRecord(*prepared), prepared, answer.call());
    });
    REQUIRE(answer.response.job_id() == "j000001");
  }

  void Do(const std::function<void(Core&, Turn&)>& fn) {
    Turn turn;
    turn.now = now;
    fn(core, turn);
    core.Settle(turn);
    for (const auto& callback : turn.after) callback();
    for (const auto& callback : turn.on_durable) callback();
  }
  StatusOr<std::string> Register(const std::string& name, v1::ProcessRole role) {
    v1::RegisterRequest request;
    request.set_name(name);
    request.set_role(role);
    StatusOr<v1::RegisterResponse> response;
    Do([&](Core& one, Turn& turn) { response = one.Register(turn, request); });
    if (!response.ok()) return response.status();
    return response->worker_id();
  }
  std::string Join(const std::string& name, v1::ProcessRole role) {
    REQUIRE_OK_AND_ASSIGN(std::string id, Register(name, role));
    return id;
  }
  Status Heartbeat(const std::string& worker_id) {
    v1::HeartbeatRequest request;
    request.set_worker_id(worker_id);
    request.set_progress(++beats);
    Status status;
    Do([&](Core& one, Turn& turn) { status = one.Heartbeat(turn, request).status(); });
    return status;
  }
  // A learner with its assignment and version 0 on offer, and a worker that holds it.
  void Start() {
    learner = Join("learner-0", v1::PROCESS_ROLE_LEARNER);
    rollout = Join("rollout-0", v1::PROCESS_ROLE_ROLLOUT);
    v1::AcquireAssignmentRequest acquire;
    acquire.set_worker_id(learner);
    Answered<v1::AcquireAssignmentResponse> assignment;
    Do([&](Core& one, Turn& turn) { one.AcquireAssignment(turn, acquire, assignment.call()); });
    REQUIRE(assignment.response.has_assignment());
    member.set_job_id("j000001");
    member.set_worker_id(learner);
    member.set_epoch(assignment.response.assignment().epoch());
    v1::OfferPolicyRequest offer;
    *offer.mutable_member() = member;
    offer.mutable_manifest()->set_job_id("j000001");
    offer.mutable_manifest()->set_hash(std::string(16, 'h'));
    offer.mutable_manifest()->add_sources();
    Answered<v1::OfferPolicyResponse> offered;
    Do([&](Core& one, Turn& turn) { one.OfferPolicy(turn, offer, offered.call()); });
    REQUIRE_OK(*offered.status);
    v1::SubmitReceiptRequest receipt;
    receipt.mutable_receipt()->set_worker_id(rollout);
    receipt.mutable_receipt()->set_job_id("j000001");
    receipt.mutable_receipt()->set_hash(std::string(16, 'h'));
    Answered<v1::SubmitReceiptResponse> received;
    Do([&](Core& one, Turn& turn) { one.SubmitReceipt(turn, receipt, received.call()); });
    REQUIRE_OK(*received.status);
  }
  std::vector<v1::PromptLease> Lease(int max_leases, absl::Duration wait = absl::ZeroDuration()) {
    v1::LeasePromptsRequest request;
    request.set_worker_id(rollout);
    request.set_max_leases(max_leases);
    *request.mutable_wait() = ToProto(wait);
    Answered<v1::LeasePromptsResponse> answer;
    Do([&](Core& one, Turn& turn) { one.LeasePrompts(turn, request, answer.call()); });
    if (!answer.status) Tick();
    REQUIRE(answer.status.has_value());
    REQUIRE_OK(*answer.status);
    return {answer.response.leases().begin(), answer.response.leases().end()};
  }
  v1::SubmitResult Submit(const v1::PromptLease& lease, v1::Trajectory trajectory) {
    v1::SubmitTrajectoriesRequest request;
    request.set_worker_id(rollout);
    request.set_lease_id(lease.lease_id());
    *request.add_trajectories() = std::move(trajectory);
    Answered<v1::SubmitTrajectoriesResponse> answer;
    Do([&](Core& one, Turn& turn) { one.SubmitTrajectories(turn, request, answer.call()); });
    REQUIRE_OK(*answer.status);
    return answer.response.results(0);
  }
  void Tick() {
    Do([](Core& one, Turn& turn) { one.Tick(turn); });
  }
  // Time passes with ticks as often as they come in production; everybody's heart beats.
  void Pass(absl::Duration duration) {
    for (const absl::Time end = now + duration; now < end;) {
      now += std::min(absl::Milliseconds(500), end - now);
      for (const std::string& id : {learner, rollout}) {
        if (!id.empty()) (void)Heartbeat(id);
      }
      Tick();
    }
  }
  const JobRun& job() const { return *core.FindJob(1); }

  absl::Time now = absl::UnixEpoch() + absl::Hours(1);
  testing::RecordingLogger logger;
  testing::RecordingMetrics metrics;
  CoordinatorMetrics coordinator_metrics{metrics};
  testing::NoRunFiles files;
  OpenJournal journal;
  Core core{CoreOptions{}, {logger, coordinator_metrics, files}, journal};
  std::string learner;
  std::string rollout;
  v1::GroupMember member;
  uint64_t beats = 0;
};

TEST_CASE("Core: a broken registration does not cost a member its place", "[unit][coordinator]") {
  World world;
  world.Start();
  CHECK(world.Register("rollout-0", v1::PROCESS_ROLE_UNSPECIFIED).status().code() ==
        StatusCode::kInvalidArgument);
  REQUIRE_OK(world.Heartbeat(world.rollout));
  REQUIRE_OK(world.Register("rollout-0", v1::PROCESS_ROLE_ROLLOUT).status());
  CHECK(world.Heartbeat(world.rollout).code() == StatusCode::kAborted);
}

TEST_CASE("Core: a trajectory is taken once, and a broken one given back", "[unit][coordinator]") {
  World world;
  world.Start();
  const std::vector<v1::PromptLease> leases = world.Lease(2);
  REQUIRE(leases.size() == 2);
  const v1::PromptLease& lease = leases[0];
  const SampleId id = TrainSample(0, lease.prompt_id(), lease.sample_indices(0));

  v1::Trajectory broken = MakeTrajectory(id, 0);
  broken.mutable_segments(0)->set_token_ids(0, 5000);
  const v1::SubmitResult rejected = world.Submit(lease, broken);
  CHECK(rejected.outcome() == v1::SUBMIT_OUTCOME_REJECTED);
  CHECK(rejected.message().find("the vocabulary has 100") != std::string::npos);
  CHECK(world.metrics.value("rollcall_coordinator_samples_rejected_total") == 1);

  // A version without a receipt of this worker.
  world.Pass(absl::Seconds(1));
  CHECK(world.Submit(lease, MakeTrajectory(id, 7)).outcome() == v1::SUBMIT_OUTCOME_REJECTED);

  CHECK(world.Submit(lease, MakeTrajectory(id, 0)).outcome() == v1::SUBMIT_OUTCOME_ACCEPTED);
  CHECK(world.Submit(lease, MakeTrajectory(id, 0)).outcome() == v1::SUBMIT_OUTCOME_DUPLICATE);
  CHECK(world.Submit(lease, MakeTrajectory(TrainSample(0, lease.prompt_id(), 9), 0)).outcome() ==
        v1::SUBMIT_OUTCOME_REJECTED);
  CHECK(world.Submit(lease, MakeTrajectory(TrainSample(5, lease.prompt_id(), 0), 0)).outcome() ==
        v1::SUBMIT_OUTCOME_UNWANTED);
}

TEST_CASE("Core: a sample that nobody can generate stops its job with the reason",
          "[unit][coordinator]") {
  World world;
  world.Start();
  REQUIRE(world.Lease(2).size() == 2);
  CHECK(world.Lease(2).empty());  // all are out
  world.Pass(absl::Seconds(31));
  CHECK(world.core.num_leases() == 0);
  for (int attempt = 2; attempt <= 3; ++attempt) {
    CHECK(world.job().state() == v1::JOB_STATE_RUNNING);
    REQUIRE(world.Lease(2).size() == 2);
    world.Pass(absl::Seconds(31));
  }
  CHECK(world.job().state() == v1::JOB_STATE_FAILED);
  const std::string reason = world.job().Snapshot(world.now).state_reason();
  INFO(reason);
  CHECK(reason.find("could not be generated in 3 attempts") != std::string::npos);
  CHECK(reason.find("rollout-0 did not answer within 30 s") != std::string::npos);
}

TEST_CASE("Core: nothing is leased while the journal is behind", "[unit][coordinator]") {
  World world;
  world.Start();
  world.journal.is_congested = true;
  CHECK(world.Lease(2).empty());
  world.journal.is_congested = false;
  CHECK(world.Lease(2).size() == 2);
}

TEST_CASE("Core: a coordinator that stood still blames nobody for it", "[unit][coordinator]") {
  World world;
  world.Start();
  world.Tick();
  REQUIRE(world.Lease(2).size() == 2);
  world.now += absl::Minutes(10);
  world.Tick();
  CHECK(world.core.num_leases() == 2);
  REQUIRE_OK(world.Heartbeat(world.rollout));
  CHECK(world.logger.Contains("the coordinator itself stood still for 600 s"));
}

TEST_CASE("Core: a silent worker is gone after its timeout, a stalled one after the job's",
          "[unit][coordinator]") {
  World world;
  world.Start();
  world.Tick();
  REQUIRE(world.Lease(2).size() == 2);
  SECTION("silent") {
    const std::string silent = std::exchange(world.rollout, "");
    world.Pass(absl::Seconds(4));
    CHECK(world.core.num_leases() == 2);
    world.Pass(absl::Seconds(2));
    CHECK(world.core.num_leases() == 0);
    CHECK(world.Heartbeat(silent).code() == StatusCode::kAborted);
    CHECK(world.logger.Contains("rollout-0"));
    CHECK(world.logger.Contains("missed its heartbeats for 5 s"));
  }
  SECTION("stalled") {
    // Its heart beats, and its progress stands still.
    const std::string stalled = std::exchange(world.learner, "");
    v1::HeartbeatRequest beat;
    beat.set_worker_id(stalled);
    beat.set_phase("backward");
    for (int second = 0; second < 62; ++second) {
      Status status;
      world.Do([&](Core& core, Turn& turn) { status = core.Heartbeat(turn, beat).status(); });
      if (second < 60) REQUIRE_OK(status);
      world.Pass(absl::Seconds(1));
    }
    CHECK(world.logger.Contains("made no progress for"));
    CHECK(world.logger.Contains("in phase 'backward'"));
    CHECK_FALSE(world.job().group().active());
  }
}

TEST_CASE("Core: the same request is one job", "[unit][coordinator]") {
  World world;
  StatusOr<Core::Submission> submission;
  world.Do([&](Core& core, Turn& turn) { submission = core.BeginSubmit(turn, "request"); });
  REQUIRE_OK(submission.status());
  CHECK(submission->known);
  CHECK(submission->job == 1);
  CHECK(submission->run_dir == "/runs/small-j000001");
  world.Do([&](Core& core, Turn& turn) { submission = core.BeginSubmit(turn, "other"); });
  CHECK_FALSE(submission->known);
  StatusOr<Core::Submission> again;
  world.Do([&](Core& core, Turn& turn) { again = core.BeginSubmit(turn, "other"); });
  CHECK(again.status().code() == StatusCode::kUnavailable);
  world.Do([&](Core& core, Turn& turn) { core.AbandonSubmit(turn, "other"); });
  world.Do([&](Core& core, Turn& turn) { again = core.BeginSubmit(turn, "other"); });
  REQUIRE_OK(again.status());
  CHECK(again->job != submission->job);
}

}  // namespace
}  // namespace rollcall::coordinator
