#include "tests/sim/cluster_sim.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/base/runtime/clock.h"
#include "services/base/runtime/random.h"
#include "services/coordinator/core.h"
#include "services/coordinator/experience/staleness.h"

namespace rollcall::testing {
namespace {

using namespace coordinator;  // NOLINT: the world under test

constexpr absl::Duration kTick = absl::Milliseconds(50);
constexpr JobNumber kJob = 1;
constexpr const char* kRunDir = "/run/sim-j000001";
constexpr int64_t kNumRows = 10;

// Appended records wait until the world flushes them; a crash loses them.
class SimJournal final : public Journal {
 public:
  explicit SimJournal(SqliteStore& store) : store_(store) {}

  void Append(std::vector<Record> records, std::function<void()> done) override {
    queue_.push_back({std::move(records), std::move(done), nullptr});
  }
  void Read(std::function<void(SqliteStore&)> fn) override {
    queue_.push_back({{}, nullptr, std::move(fn)});
  }
  bool congested() const override { return false; }

  // Makes up to `count` entries durable.
  Status Flush(size_t count) {
    for (; count > 0 && !queue_.empty(); --count) {
      Entry entry = std::move(queue_.front());
      queue_.pop_front();
      if (!entry.records.empty()) ROLLCALL_RETURN_IF_ERROR(store_.Apply(entry.records));
      if (entry.done) entry.done();
      if (entry.read) entry.read(store_);
    }
    return OkStatus();
  }
  size_t size() const { return queue_.size(); }

 private:
  struct Entry {
    std::vector<Record> records;
    std::function<void()> done;
    std::function<void(SqliteStore&)> read;
  };
  SqliteStore& store_;
  std::deque<Entry> queue_;
};

class SimFiles final : public RunFiles {
 public:
  void AppendLine(JobNumber, const std::string& path, std::string line) override {
    files_[path] += line + "\n";
  }
  void Replace(JobNumber, const std::string& path, std::function<std::string()> make) override {
    files_[path] = make();
  }
  const std::string& content(const std::string& path) { return files_[path]; }

 private:
  std::map<std::string, std::string> files_;
};

v1::JobSpec MakeSpec(const SimOptions& options) {
  v1::JobSpec spec;
  spec.mutable_run()->set_name("sim");
  spec.mutable_run()->set_seed(7);
  spec.mutable_data()->set_kind(options.kind);
  spec.mutable_data()->set_shuffle(true);
  spec.mutable_rollout()->set_samples_per_prompt(options.samples_per_prompt);
  spec.mutable_rollout()->set_max_new_tokens(4);
  spec.mutable_rollout()->set_temperature(1);
  spec.mutable_rollout()->set_top_p(1);
  spec.mutable_rollout()->set_max_attempts(1000);
  spec.mutable_rollout()->mutable_lease_timeout()->set_seconds(2);
  v1::ScorerSpec& scorer = *spec.mutable_reward()->add_scorers();
  scorer.set_type("exact_match");
  scorer.set_max_retries(1000);
  spec.mutable_reward()->set_max_failure_share(0.9);
  spec.mutable_reward()->mutable_lease_timeout()->set_seconds(2);
  spec.mutable_train()->set_total_steps(options.total_steps);
  spec.mutable_train()->set_prompts_per_step(options.prompts_per_step);
  spec.mutable_sync()->set_max_staleness(options.max_staleness);
  if (options.num_evaluation_prompts > 0) {
    spec.mutable_evaluate()->set_path("held_out.jsonl");
    spec.mutable_evaluate()->set_interval_steps(options.evaluate_interval);
    spec.mutable_evaluate()->set_samples_per_prompt(1);
    spec.mutable_evaluate()->set_correct_threshold(0.5);
  }
  spec.mutable_checkpoint()->set_interval_steps(options.checkpoint_interval);
  spec.mutable_resources()->set_learner_ranks(options.learner_ranks);
  spec.mutable_resources()->mutable_stall_timeout()->set_seconds(30);
  spec.mutable_resources()->mutable_learner_timeout()->set_seconds(600);
  return spec;
}

PreparedRows MakeRows(int64_t count, int num_completions) {
  PreparedRows rows;
  for (int64_t i = 0; i < count; ++i) {
    PreparedRow& row = rows.rows.emplace_back();
    row.json = "{\"answer\":\"" + std::to_string(i) + "\"}";
    row.prompt = {static_cast<int32_t>(i), 1, 2};
    for (int c = 0; c < num_completions; ++c) {
      row.completions.push_back({{{static_cast<int32_t>(c + 10), static_cast<int32_t>(i)}, true}});
    }
    rows.usable.push_back(i);
  }
  return rows;
}

std::shared_ptr<const PreparedJob> MakePrepared(const SimOptions& options) {
  auto job = std::make_shared<PreparedJob>();
  job->spec = std::make_shared<const v1::JobSpec>(MakeSpec(options));
  job->vocab_size = 1000;
  job->stop_token_ids = {99};
  const int completions = options.kind == v1::DataSpec::PROMPTS       ? 0
                          : options.kind == v1::DataSpec::COMPLETIONS ? 1
                                                                      : 2;
  job->data = MakeRows(kNumRows, completions);
  if (options.num_evaluation_prompts > 0) {
    job->evaluation = MakeRows(options.num_evaluation_prompts, 0);
  }
  return job;
}

uint64_t KeyHash(const v1::SampleKey& key) {
  return SampleStreamKey(7, static_cast<uint64_t>(key.purpose()), key.iteration(), key.prompt_id(),
                         key.sample_index());
}

std::string KeyText(const v1::SampleKey& key) {
  return std::to_string(key.purpose()) + "/" + std::to_string(key.iteration()) + "/" +
         std::to_string(key.prompt_id()) + "/" + std::to_string(key.sample_index());
}

v1::Trajectory MakeTrajectory(const v1::PromptLease& lease, int32_t index, int64_t version) {
  v1::Trajectory trajectory;
  v1::SampleKey& key = *trajectory.mutable_key();
  key.set_job_id(lease.job_id());
  key.set_iteration(lease.iteration());
  key.set_prompt_id(lease.prompt_id());
  key.set_sample_index(index);
  key.set_purpose(lease.purpose());
  *trajectory.mutable_prompt_token_ids() = lease.prompt_token_ids();
  const uint64_t hash = KeyHash(key);
  v1::Segment& segment = *trajectory.add_segments();
  segment.set_kind(v1::SEGMENT_KIND_POLICY);
  segment.set_policy_version(version);
  const int length = 1 + static_cast<int>(hash % 4);
  for (int i = 0; i < length; ++i) {
    segment.add_token_ids(static_cast<int32_t>((hash >> (8 * i)) % 99));
    segment.add_behavior_logprobs(-0.5F);
  }
  trajectory.set_finish_reason(length == 4 ? v1::FINISH_REASON_LENGTH : v1::FINISH_REASON_STOP);
  return trajectory;
}

class World;

// One incarnation of a process. Replies to an earlier one reach nobody.
class Actor {
 public:
  Actor(World& world, v1::ProcessRole role, std::string name)
      : world_(world), role_(role), name_(std::move(name)) {}
  virtual ~Actor() = default;

  void Step();
  void Die() {
    life_ = std::make_shared<int>();
    worker_id_.clear();
    registering_ = false;
    Forget();
  }
  void HangUntil(absl::Time until) { hangs_until_ = until; }
  const std::string& name() const { return name_; }

 protected:
  virtual void Work() = 0;
  // Everything in memory is lost.
  virtual void Forget() = 0;
  // The coordinator does not know this registration any more.
  void Orphaned() {
    worker_id_.clear();
    registering_ = false;
    Forget();
  }
  // A call whose reply may be lost. `on_reply` runs in the life that made the call only; a lost
  // reply is reported as UNAVAILABLE.
  template <typename Response>
  Call<Response> MakeCall(std::function<void(const Status&, Response)> on_reply);

  World& world_;
  const v1::ProcessRole role_;
  const std::string name_;
  std::string worker_id_;

 private:
  bool registering_ = false;
  absl::Time hangs_until_;
  std::shared_ptr<int> life_ = std::make_shared<int>();
  uint64_t beats_ = 0;
};

class World {
 public:
  explicit World(const SimOptions& options)
      : options_(options), random_(MixKey(std::array<uint64_t, 2>{options.seed, 99})) {
    auto store = SqliteStore::Open(":memory:", SqliteStore::Access::kOwner);
    ROLLCALL_CHECK(store.ok());
    store_ = *std::move(store);
    prepared_ = MakePrepared(options);
  }

  SimResult Run();

  bool Chance(double p) { return faults() && p > 0 && random_.Uniform() < p; }
  bool faults() const { return tick_ < options_.fault_ticks; }
  uint64_t Below(uint64_t bound) { return random_.Below(bound); }
  absl::Time now() const { return clock_.Now(); }
  const SimOptions& options() const { return options_; }
  void Violation(const std::string& what) { result_.violations.push_back(what); }

  void Do(const std::function<void(Core&, Turn&)>& fn) {
    Turn turn;
    turn.now = clock_.Now();
    fn(*core_, turn);
    const auto reads = core_->Settle(turn);
    if (!turn.records.empty() || !turn.on_durable.empty()) {
      journal_->Append(std::move(turn.records), [callbacks = std::move(turn.on_durable)] {
        for (const auto& callback : callbacks) callback();
      });
    }
    for (const auto& callback : turn.after) pending_.push_back(callback);
    for (const auto& read : reads) {
      journal_->Read([this, read](SqliteStore& store) {
        auto samples = store.LoadSamples({.job = read.job,
                                          .purpose = v1::SAMPLE_PURPOSE_TRAIN,
                                          .min_iteration = read.step - 1,
                                          .max_iteration = read.step - 1});
        Do([&](Core& core, Turn& next) {
          core.BatchRead(next, read.job, read.step, std::move(samples));
        });
      });
    }
  }

  // Ranks of one epoch meet here before rank 0 commits.
  int& ArrivedAt(int64_t epoch, int64_t step) { return arrived_[{epoch, step}]; }

  void BatchSeen(const v1::Batch& batch, int32_t rank, int32_t world_size);
  void AcceptedIsDurable(const v1::SampleKey& key);

 private:
  void StartCoordinator();
  void RestartCoordinator();
  void Submit();
  void DeliverReplies() {
    while (!pending_.empty()) {
      const std::function<void()> callback = std::move(pending_.front());
      pending_.pop_front();
      callback();
    }
  }
  void Collect();

  const SimOptions options_;
  CounterRandom random_;
  ManualClock clock_{absl::UnixEpoch() + absl::Hours(1)};
  NullLogger logger_;
  std::unique_ptr<MetricsRegistry> registry_ = MakeNullMetrics();
  CoordinatorMetrics metrics_{*registry_};
  SimFiles files_;
  std::unique_ptr<SqliteStore> store_;
  std::unique_ptr<SimJournal> journal_;
  std::unique_ptr<Core> core_;
  std::shared_ptr<const PreparedJob> prepared_;
  std::deque<std::function<void()>> pending_;
  std::vector<std::unique_ptr<Actor>> actors_;
  std::map<std::pair<int64_t, int64_t>, int> arrived_;
  std::map<std::pair<int64_t, int32_t>, std::string> part_of_rank_;
  std::map<std::string, int64_t> step_of_sample_;
  int tick_ = 0;
  SimResult result_;
};

template <typename Response>
Call<Response> Actor::MakeCall(std::function<void(const Status&, Response)> on_reply) {
  Call<Response> call;
  const bool lost = world_.Chance(world_.options().lost_reply);
  call.reply = [on_reply = std::move(on_reply), life = std::weak_ptr<int>(life_), lost](
                   const Status& status, Response response) {
    if (life.expired()) return;
    if (lost) {
      on_reply(Unavailable("the reply was lost"), {});
    } else {
      on_reply(status, std::move(response));
    }
  };
  return call;
}

void Actor::Step() {
  if (world_.now() < hangs_until_) return;
  if (worker_id_.empty()) {
    if (registering_) return;
    v1::RegisterRequest request;
    request.set_role(role_);
    request.set_name(name_);
    world_.Do([&](Core& core, Turn& turn) {
      const auto response = core.Register(turn, request);
      if (response.ok()) worker_id_ = response->worker_id();
    });
    return;
  }
  v1::HeartbeatRequest beat;
  beat.set_worker_id(worker_id_);
  beat.set_progress(++beats_);
  bool known = true;
  world_.Do([&](Core& core, Turn& turn) { known = core.Heartbeat(turn, beat).ok(); });
  if (!known) {
    Orphaned();
    return;
  }
  Work();
}

// --- rollout worker

class RolloutActor final : public Actor {
 public:
  using Actor::Actor;

 private:
  struct Held {
    v1::PromptLease lease;
    absl::Time due;
    bool manifest_asked = false;
    int64_t version = -1;
    bool submitted = false;
  };

  void Forget() override {
    held_.clear();
    versions_.clear();
    asking_ = false;
  }

  void Work() override {
    if (!asking_ && held_.size() < 6) AskForLeases();
    for (auto& [id, held] : held_) {
      if (held.version < 0) {
        EnsureVersion(id, held);
      } else if (!held.submitted && world_.now() >= held.due) {
        Submit(id, held);
      }
    }
    std::erase_if(held_, [](const auto& entry) { return entry.second.submitted; });
  }

  void AskForLeases() {
    asking_ = true;
    v1::LeasePromptsRequest request;
    request.set_worker_id(worker_id_);
    request.set_max_leases(static_cast<int32_t>(1 + world_.Below(4)));
    request.mutable_wait()->set_seconds(1);
    auto call = MakeCall<v1::LeasePromptsResponse>(
        [this](const Status& status, v1::LeasePromptsResponse response) {
          asking_ = false;
          if (status.code() == StatusCode::kAborted) {
            Orphaned();
            return;
          }
          for (const v1::PromptLease& lease : response.leases()) {
            Held& held = held_[lease.lease_id()];
            held.lease = lease;
            const bool late = world_.Chance(world_.options().late_answer);
            held.due = world_.now() + absl::Milliseconds(50 + world_.Below(300)) +
                       (late ? absl::Seconds(3) : absl::ZeroDuration());
          }
        });
    world_.Do([&](Core& core, Turn& turn) { core.LeasePrompts(turn, request, call); });
  }

  void EnsureVersion(const std::string& id, Held& held) {
    const int64_t wanted = held.lease.policy_version();
    for (auto version = versions_.rbegin(); version != versions_.rend(); ++version) {
      if (held.lease.exact_version() ? *version == wanted : *version >= wanted) {
        held.version = *version;
        return;
      }
    }
    if (held.manifest_asked) return;
    held.manifest_asked = true;
    v1::GetManifestRequest request;
    request.set_worker_id(worker_id_);
    request.set_job_id(held.lease.job_id());
    request.set_policy_version(wanted);
    request.set_exact_version(held.lease.exact_version());
    request.mutable_wait()->set_seconds(1);
    auto call = MakeCall<v1::GetManifestResponse>(
        [this, id](const Status& status, v1::GetManifestResponse response) {
          if (const auto found = held_.find(id); found != held_.end()) {
            found->second.manifest_asked = false;
          }
          if (status.code() == StatusCode::kAborted) {
            Orphaned();
          } else if (status.ok() && response.has_manifest()) {
            SendReceipt(response.manifest());
          }
        });
    world_.Do([&](Core& core, Turn& turn) { core.GetManifest(turn, request, call); });
  }

  void SendReceipt(const v1::WeightManifest& manifest) {
    v1::SubmitReceiptRequest request;
    v1::WeightReceipt& receipt = *request.mutable_receipt();
    receipt.set_worker_id(worker_id_);
    receipt.set_job_id(manifest.job_id());
    receipt.set_policy_version(manifest.policy_version());
    receipt.set_hash(manifest.hash());
    auto call =
        MakeCall<v1::SubmitReceiptResponse>([this, version = manifest.policy_version()](
                                                const Status& status, v1::SubmitReceiptResponse) {
          if (status.ok()) versions_.insert(version);
        });
    world_.Do([&](Core& core, Turn& turn) { core.SubmitReceipt(turn, request, call); });
  }

  void Submit(const std::string& id, Held& held) {
    const SimOptions& options = world_.options();
    v1::SubmitTrajectoriesRequest request;
    request.set_worker_id(worker_id_);
    request.set_lease_id(id);
    for (const int32_t index : held.lease.sample_indices()) {
      v1::Trajectory trajectory = MakeTrajectory(held.lease, index, held.version);
      if (world_.Chance(options.infrastructure_failure)) {
        v1::SampleFailure& failure = *request.add_failures();
        *failure.mutable_key() = trajectory.key();
        failure.mutable_failure()->set_kind(v1::Failure::KIND_INFRASTRUCTURE);
        failure.mutable_failure()->set_reason("sim");
        continue;
      }
      if (world_.Chance(options.broken_answer)) Break(trajectory);
      *request.add_trajectories() = std::move(trajectory);
    }
    const bool twice = world_.Chance(options.duplicate_answer);
    for (int copy = 0; copy < (twice ? 2 : 1); ++copy) Send(request);
    held.submitted = true;
  }

  void Break(v1::Trajectory& trajectory) {
    switch (world_.Below(4)) {
      case 0:
        trajectory.mutable_segments(0)->mutable_behavior_logprobs()->RemoveLast();
        break;
      case 1:
        trajectory.mutable_segments(0)->set_behavior_logprobs(0, 0.5F);
        break;
      case 2:
        trajectory.mutable_segments(0)->set_policy_version(1000);
        break;
      default:
        trajectory.add_prompt_token_ids(5);
        break;
    }
  }

  void Send(const v1::SubmitTrajectoriesRequest& request) {
    auto call = MakeCall<v1::SubmitTrajectoriesResponse>(
        [this, request](const Status& status, v1::SubmitTrajectoriesResponse response) {
          if (status.code() == StatusCode::kAborted) {
            Orphaned();
            return;
          }
          // A lost reply is no answer: the call is made again.
          if (status.code() == StatusCode::kUnavailable) Send(request);
          for (const v1::SubmitResult& result : response.results()) {
            if (result.outcome() == v1::SUBMIT_OUTCOME_ACCEPTED && request.failures_size() == 0) {
              world_.AcceptedIsDurable(result.key());
            }
          }
        });
    world_.Do([&](Core& core, Turn& turn) { core.SubmitTrajectories(turn, request, call); });
  }

  std::map<std::string, Held> held_;
  std::set<int64_t> versions_;
  bool asking_ = false;
};

// --- reward server

class RewardActor final : public Actor {
 public:
  using Actor::Actor;

 private:
  struct Held {
    v1::ScoreTask task;
    absl::Time due;
  };

  void Forget() override {
    held_.clear();
    asking_ = false;
  }

  void Work() override {
    if (!asking_ && held_.size() < 20) AskForTasks();
    v1::SubmitScoresRequest request;
    request.set_worker_id(worker_id_);
    std::erase_if(held_, [&](const Held& held) {
      if (world_.now() < held.due) return false;
      AddScore(held.task, request);
      return true;
    });
    if (request.scores_size() == 0) return;
    const bool twice = world_.Chance(world_.options().duplicate_answer);
    for (int copy = 0; copy < (twice ? 2 : 1); ++copy) Send(request);
  }

  void AskForTasks() {
    asking_ = true;
    v1::LeaseScoresRequest request;
    request.set_worker_id(worker_id_);
    request.set_max_tasks(8);
    request.mutable_wait()->set_seconds(1);
    auto call = MakeCall<v1::LeaseScoresResponse>(
        [this](const Status& status, v1::LeaseScoresResponse response) {
          asking_ = false;
          if (status.code() == StatusCode::kAborted) {
            Orphaned();
            return;
          }
          for (const v1::ScoreTask& task : response.tasks()) {
            const bool late = world_.Chance(world_.options().late_answer);
            held_.push_back({task, world_.now() + absl::Milliseconds(world_.Below(200)) +
                                       (late ? absl::Seconds(3) : absl::ZeroDuration())});
          }
        });
    world_.Do([&](Core& core, Turn& turn) { core.LeaseScores(turn, request, call); });
  }

  void AddScore(const v1::ScoreTask& task, v1::SubmitScoresRequest& request) {
    v1::LeasedScore& leased = *request.add_scores();
    leased.set_lease_id(task.lease_id());
    v1::Score& score = *leased.mutable_score();
    *score.mutable_key() = task.trajectory().key();
    const uint64_t hash = KeyHash(score.key());
    if (world_.Chance(world_.options().infrastructure_failure)) {
      score.mutable_failure()->set_kind(v1::Failure::KIND_INFRASTRUCTURE);
      score.mutable_failure()->set_reason("timeout");
    } else if (static_cast<double>(hash % 1000) < world_.options().data_failure * 1000) {
      score.mutable_failure()->set_kind(v1::Failure::KIND_DATA);
      score.mutable_failure()->set_reason("unparsable");
    } else {
      score.set_reward(static_cast<double>(hash % 2));
    }
  }

  void Send(const v1::SubmitScoresRequest& request) {
    auto call = MakeCall<v1::SubmitScoresResponse>(
        [this, request](const Status& status, const v1::SubmitScoresResponse&) {
          if (status.code() == StatusCode::kAborted) Orphaned();
          if (status.code() == StatusCode::kUnavailable) Send(request);
        });
    world_.Do([&](Core& core, Turn& turn) { core.SubmitScores(turn, request, call); });
  }

  std::vector<Held> held_;
  bool asking_ = false;
};

// --- learner

class LearnerActor final : public Actor {
 public:
  using Actor::Actor;

 private:
  enum class Phase { kIdle, kOffer, kBatch, kTrain, kCommit, kCheckpoint, kFinish };

  void Forget() override {
    phase_ = Phase::kIdle;
    asking_ = false;
  }

  void Work() override {
    if (asking_) return;
    switch (phase_) {
      case Phase::kIdle:
        return AskForAssignment();
      case Phase::kOffer:
        return Offer();
      case Phase::kBatch:
        return AskForBatch();
      case Phase::kTrain:
        return Train();
      case Phase::kCommit:
        return Commit();
      case Phase::kCheckpoint:
        return Checkpoint();
      case Phase::kFinish:
        return Finish();
    }
  }

  // True when the call must be made again or the assignment is over.
  bool Failed(const Status& status) {
    asking_ = false;
    if (status.ok()) return false;
    if (status.code() == StatusCode::kUnavailable) return true;
    if (status.code() != StatusCode::kAborted) {
      world_.Violation(name_ + " was refused: " + status.ToString());
    }
    phase_ = Phase::kIdle;
    return true;
  }

  v1::GroupMember Member() const {
    v1::GroupMember member;
    member.set_worker_id(worker_id_);
    member.set_job_id(assignment_.job_id());
    member.set_epoch(assignment_.epoch());
    member.set_rank(assignment_.rank());
    return member;
  }

  v1::WeightManifest Manifest(int64_t version) const {
    v1::WeightManifest manifest;
    manifest.set_job_id(assignment_.job_id());
    manifest.set_policy_version(version);
    manifest.set_epoch(assignment_.epoch());
    manifest.set_hash(std::string(15, 'h') + static_cast<char>('a' + version % 26));
    manifest.add_sources()->mutable_grpc()->set_address("127.0.0.1:1");
    return manifest;
  }

  void AskForAssignment() {
    asking_ = true;
    v1::AcquireAssignmentRequest request;
    request.set_worker_id(worker_id_);
    request.mutable_wait()->set_seconds(1);
    auto call = MakeCall<v1::AcquireAssignmentResponse>(
        [this](const Status& status, v1::AcquireAssignmentResponse response) {
          asking_ = false;
          if (status.code() == StatusCode::kAborted) {
            Orphaned();
            return;
          }
          if (!status.ok() || !response.has_assignment()) return;
          assignment_ = response.assignment();
          step_ = assignment_.resume_step();
          phase_ = assignment_.rank() == 0 ? Phase::kOffer : Phase::kBatch;
          ++step_;
        });
    world_.Do([&](Core& core, Turn& turn) { core.AcquireAssignment(turn, request, call); });
  }

  void Offer() {
    asking_ = true;
    v1::OfferPolicyRequest request;
    *request.mutable_member() = Member();
    *request.mutable_manifest() = Manifest(assignment_.resume_step());
    auto call = MakeCall<v1::OfferPolicyResponse>(
        [this](const Status& status, const v1::OfferPolicyResponse&) {
          if (!Failed(status)) phase_ = Phase::kBatch;
        });
    world_.Do([&](Core& core, Turn& turn) { core.OfferPolicy(turn, request, call); });
  }

  void AskForBatch() {
    asking_ = true;
    v1::AcquireBatchRequest request;
    *request.mutable_member() = Member();
    request.set_step(step_);
    request.mutable_wait()->set_seconds(1);
    auto call = MakeCall<v1::AcquireBatchResponse>(
        [this](const Status& status, v1::AcquireBatchResponse response) {
          if (Failed(status) || !response.has_batch()) return;
          if (step_ == assignment_.spec().train().total_steps() + 1) {
            if (response.batch().groups_size() > 0) world_.Violation("the end has groups");
            phase_ = Phase::kFinish;
            return;
          }
          world_.BatchSeen(response.batch(), assignment_.rank(), assignment_.world_size());
          ++world_.ArrivedAt(assignment_.epoch(), step_);
          phase_ = Phase::kTrain;
        });
    world_.Do([&](Core& core, Turn& turn) { core.AcquireBatch(turn, request, call); });
  }

  void Train() {
    // The collective: nobody goes on before everybody has its part.
    if (world_.ArrivedAt(assignment_.epoch(), step_) < assignment_.world_size()) {
      // A rank whose peers are gone learns it from its next call.
      v1::StoreSetRequest request;
      *request.mutable_member() = Member();
      request.set_key("alive/" + std::to_string(assignment_.rank()));
      request.set_value(std::to_string(step_));
      auto call = MakeCall<v1::StoreSetResponse>(
          [this](const Status& status, const v1::StoreSetResponse&) { (void)Failed(status); });
      asking_ = true;
      world_.Do([&](Core& core, Turn& turn) { core.StoreSet(turn, request, call); });
      return;
    }
    if (assignment_.rank() == 0) {
      phase_ = Phase::kCommit;
    } else {
      ++step_;
      phase_ = Phase::kBatch;
    }
  }

  void Commit() {
    asking_ = true;
    v1::CommitStepRequest request;
    *request.mutable_member() = Member();
    request.set_step(step_);
    *request.mutable_manifest() = Manifest(step_);
    (*request.mutable_metrics())["loss"] = 1.0 / static_cast<double>(step_);
    request.set_optimizer_updates(1);
    auto call = MakeCall<v1::CommitStepResponse>(
        [this](const Status& status, const v1::CommitStepResponse&) {
          if (Failed(status)) return;
          const bool saves = step_ % assignment_.spec().checkpoint().interval_steps() == 0 ||
                             step_ == assignment_.spec().train().total_steps();
          if (saves) {
            phase_ = Phase::kCheckpoint;
          } else {
            ++step_;
            phase_ = Phase::kBatch;
          }
        });
    world_.Do([&](Core& core, Turn& turn) { core.CommitStep(turn, request, call); });
  }

  void Checkpoint() {
    asking_ = true;
    v1::ReportCheckpointRequest request;
    *request.mutable_member() = Member();
    request.set_step(step_);
    request.set_directory(std::string(kRunDir) + "/checkpoints/step-" + std::to_string(step_));
    auto call = MakeCall<v1::ReportCheckpointResponse>(
        [this](const Status& status, const v1::ReportCheckpointResponse&) {
          if (Failed(status)) return;
          ++step_;
          phase_ = Phase::kBatch;
        });
    world_.Do([&](Core& core, Turn& turn) { core.ReportCheckpoint(turn, request, call); });
  }

  void Finish() {
    asking_ = true;
    v1::FinishAssignmentRequest request;
    *request.mutable_member() = Member();
    auto call = MakeCall<v1::FinishAssignmentResponse>(
        [this](const Status& status, const v1::FinishAssignmentResponse&) {
          if (!Failed(status)) phase_ = Phase::kIdle;
        });
    world_.Do([&](Core& core, Turn& turn) { core.FinishAssignment(turn, request, call); });
  }

  v1::Assignment assignment_;
  Phase phase_ = Phase::kIdle;
  int64_t step_ = 0;
  bool asking_ = false;
};

// --- the world

void World::BatchSeen(const v1::Batch& batch, int32_t rank, int32_t world_size) {
  std::string text;
  for (const v1::PromptGroup& group : batch.groups()) {
    text += std::to_string(group.prompt_id()) + ":";
    for (const v1::Experience& experience : group.experiences()) {
      const v1::Trajectory& trajectory = experience.trajectory();
      const std::string key = KeyText(trajectory.key());
      text += key + "=" + std::to_string(experience.reward()) + "," +
              std::to_string(experience.preference_rank());
      for (const v1::Segment& segment : trajectory.segments()) {
        text += "@" + std::to_string(segment.policy_version());
        for (const int32_t token : segment.token_ids()) text += "." + std::to_string(token);
      }
      text += ";";
      const int64_t staleness = Staleness(trajectory);
      result_.worst_staleness = std::max(result_.worst_staleness, staleness);
      if (staleness > options_.max_staleness) {
        Violation("staleness " + std::to_string(staleness) + " in step " +
                  std::to_string(batch.step()));
      }
      const auto [known, added] = step_of_sample_.emplace(key, batch.step());
      if (!added && known->second != batch.step()) {
        Violation("sample " + key + " in steps " + std::to_string(known->second) + " and " +
                  std::to_string(batch.step()));
      }
    }
  }
  const auto [part, added] = part_of_rank_.emplace(std::make_pair(batch.step(), rank), text);
  if (!added) {
    ++result_.replayed_batches;
    if (part->second != text) {
      Violation("step " + std::to_string(batch.step()) +
                " was handed out twice and differs: " + part->second + " | " + text);
    }
  }
  (void)world_size;
}

void World::AcceptedIsDurable(const v1::SampleKey& key) {
  const auto samples = store_->LoadSamples({.job = kJob,
                                            .purpose = key.purpose(),
                                            .min_iteration = key.iteration(),
                                            .max_iteration = key.iteration(),
                                            .prompt_id = key.prompt_id()});
  const bool found =
      samples.ok() && std::any_of(samples->begin(), samples->end(), [&](const auto& sample) {
        return sample.id.sample_index == key.sample_index() && sample.trajectory != nullptr;
      });
  if (!found) Violation("accepted but not in the journal: " + KeyText(key));
}

void World::StartCoordinator() {
  journal_ = std::make_unique<SimJournal>(*store_);
  CoreOptions core_options;
  core_options.incarnation = *store_->NextIncarnation();
  core_options.registry.heartbeat_timeout = absl::Seconds(1);
  core_ =
      std::make_unique<Core>(core_options, JobEnvironment{logger_, metrics_, files_}, *journal_);
  auto jobs = store_->LoadJobs();
  ROLLCALL_CHECK(jobs.ok());
  for (StoredJob& job : *jobs) {
    const Status restored = core_->RestoreJob(std::move(job), prepared_, *store_, clock_.Now());
    if (!restored.ok()) Violation("restore: " + restored.ToString());
  }
}

void World::RestartCoordinator() {
  ++result_.coordinator_restarts;
  // Calls in flight end without an answer; what was not durable is lost.
  pending_.clear();
  core_.reset();
  journal_.reset();
  StartCoordinator();
  // Everybody notices on the next call: the old registrations are unknown. Calls that waited are
  // gone, so the processes start over.
  for (const auto& actor : actors_) actor->Die();
}

void World::Submit() {
  Do([&](Core& core, Turn& turn) {
    JobRecord record;
    const auto submission = core.BeginSubmit(turn, "request");
    ROLLCALL_CHECK(submission.ok() && submission->job == kJob);
    record.job = submission->job;
    record.request_id = "request";
    record.spec = prepared_->spec;
    record.run_dir = kRunDir;
    core.AddJob(turn, std::move(record), prepared_,
                {.reply = [](const Status&, const v1::SubmitJobResponse&) {}});
  });
  ROLLCALL_CHECK(journal_->Flush(100).ok());
}

void World::Collect() {
  result_.ticks = tick_;
  const JobRun* run = core_->FindJob(kJob);
  result_.status = run->Snapshot(clock_.Now());
  result_.epochs = run->group().epoch();
  for (const auto& [key, text] : part_of_rank_) result_.batches[key.first] += text + "|";
  result_.consumed_in_journal = *store_->CountSamples(kJob, v1::SAMPLE_STATE_CONSUMED);
  result_.failed_in_journal = *store_->CountSamples(kJob, v1::SAMPLE_STATE_FAILED);
  std::string lines = files_.content(std::string(kRunDir) + "/metrics.jsonl");
  while (!lines.empty()) {
    const size_t end = lines.find('\n');
    const auto line = nlohmann::json::parse(lines.substr(0, end));
    lines.erase(0, end + 1);
    if (line.contains("evaluation")) {
      result_.evaluated_versions.push_back(line["evaluation"]["policy_version"]);
    } else {
      result_.metric_steps.push_back(line["step"]);
    }
  }
}

SimResult World::Run() {
  StartCoordinator();
  for (int i = 0; i < options_.num_rollouts; ++i) {
    actors_.push_back(std::make_unique<RolloutActor>(*this, v1::PROCESS_ROLE_ROLLOUT,
                                                     "rollout-" + std::to_string(i)));
  }
  for (int i = 0; i < options_.num_rewards; ++i) {
    actors_.push_back(std::make_unique<RewardActor>(*this, v1::PROCESS_ROLE_REWARD,
                                                    "reward-" + std::to_string(i)));
  }
  for (int i = 0; i < options_.num_learners; ++i) {
    actors_.push_back(std::make_unique<LearnerActor>(*this, v1::PROCESS_ROLE_LEARNER,
                                                     "learner-" + std::to_string(i)));
  }
  Submit();
  for (tick_ = 0; tick_ < options_.max_ticks; ++tick_) {
    clock_.Advance(kTick);
    if (Chance(options_.coordinator_death)) RestartCoordinator();
    Do([](Core& core, Turn& turn) { core.Tick(turn); });
    // Actors act in a random order, and replies and commits come at random moments.
    const size_t first = Below(actors_.size());
    for (size_t i = 0; i < actors_.size(); ++i) {
      Actor& actor = *actors_[(first + i) % actors_.size()];
      if (Chance(options_.death)) actor.Die();
      if (Chance(options_.hang)) actor.HangUntil(clock_.Now() + absl::Seconds(Below(6)));
      actor.Step();
      if (Below(2) == 0) DeliverReplies();
      if (Below(2) == 0) {
        const Status flushed = journal_->Flush(1 + Below(8));
        if (!flushed.ok()) Violation("journal: " + flushed.ToString());
      }
    }
    DeliverReplies();
    if (!result_.violations.empty()) break;
    if (core_->FindJob(kJob)->ended() && journal_->size() == 0) break;
  }
  if (!journal_->Flush(100'000).ok()) Violation("the journal does not take the end");
  DeliverReplies();
  Collect();
  return std::move(result_);
}

}  // namespace

SimResult RunCluster(const SimOptions& options) { return World(options).Run(); }

}  // namespace rollcall::testing
