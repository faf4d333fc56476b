// The control plane under load: one real coordinator process, 1,000 simulated rollout workers, one
// simulated reward server and one simulated learner that do no work but speak the whole protocol.
//
//   control_plane_bench [--json] [--workers N] [--samples N] [--leases-per-call N] [--rate N]
//
// Two cases, each with a coordinator of its own:
//   saturated  every worker asks again at once: leases per second, and resident memory of the
//              coordinator after a fifth of the samples and at the end;
//   paced      the workers together ask for `rate` leases per second, as workers do that spend
//              their time sampling: latency of LeasePrompts calls that found work, from call to
//              answer, with all other calls going on.
// The simulation shares the machine's cores with the coordinator.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/alarm.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "absl/synchronization/mutex.h"
#include "rollcall/v1/coordinator.grpc.pb.h"
#include "rollcall/v1/experience.grpc.pb.h"
#include "rollcall/v1/fleet.grpc.pb.h"
#include "rollcall/v1/learner.grpc.pb.h"
#include "services/base/sync/mutex.h"
#include "services/common/config/job_file.h"
#include "services/common/rpc/client.h"
#include "services/common/storage/files.h"

extern char** environ;

namespace rollcall {
namespace {

namespace fs = std::filesystem;

constexpr int kPromptsPerStep = 20000;
constexpr int kNumChannels = 4;
const absl::Duration kWait = absl::Seconds(2);

struct BenchOptions {
  bool json = false;
  int workers = 1000;
  int64_t samples = 1000000;
  int leases_per_call = 4;
  // Leases per second of the paced case.
  int rate = 10000;
};

google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration proto;
  proto.set_seconds(absl::ToInt64Seconds(duration));
  proto.set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(duration - absl::Seconds(proto.seconds()))));
  return proto;
}

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "error: %s\n", what.c_str());
  std::exit(1);
}

void Require(const Status& status, const char* what) {
  if (!status.ok()) Fail(std::string(what) + ": " + status.ToString());
}

int64_t ResidentBytes(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
  int64_t total = 0;
  int64_t resident = 0;
  file >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

pid_t Spawn(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  if (posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) {
    Fail("cannot start " + arguments[0]);
  }
  return pid;
}

// Everything that the simulated processes share.
struct Shared {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  std::string job_id;
  std::atomic<int64_t> offered_version{0};
  std::atomic<int64_t> leases{0};
  std::atomic<int64_t> accepted{0};
  std::atomic<int64_t> not_accepted{0};
  std::atomic<bool> stop{false};
  std::atomic<int> running_calls{0};
  Mutex mu;
  std::vector<float> latencies_ms ABSL_GUARDED_BY(mu);
};

// One simulated rollout worker: a chain of callbacks, no thread of its own.
class SimulatedWorker {
 public:
  // `cycle`: time from one lease call to the next, zero for none; `offset`: of the first call.
  SimulatedWorker(Shared& shared, int index, int leases_per_call, absl::Duration cycle,
                  absl::Duration offset)
      : shared_(shared),
        cycle_(cycle),
        offset_(offset),
        experience_(v1::ExperienceService::NewStub(shared.channels[index % kNumChannels])),
        policy_(v1::PolicyService::NewStub(shared.channels[index % kNumChannels])) {
    auto fleet = v1::FleetService::NewStub(shared.channels[index % kNumChannels]);
    v1::RegisterRequest request;
    request.set_role(v1::PROCESS_ROLE_ROLLOUT);
    request.set_name("sim-" + std::to_string(index));
    request.set_host("localhost");
    request.set_pid(getpid());
    v1::RegisterResponse response;
    Require(Call(*fleet, &v1::FleetService::Stub::Register, request, &response), "Register");
    worker_id_ = response.worker_id();
    lease_request_.set_worker_id(worker_id_);
    lease_request_.set_max_leases(leases_per_call);
    *lease_request_.mutable_wait() = ToProto(kWait);
  }

  const std::string& worker_id() const { return worker_id_; }

  void Start() {
    At(absl::Now() + offset_, [this] { Lease(); });
  }

 private:
  template <typename Fn>
  void Async(Fn start) {
    context_ = std::make_unique<grpc::ClientContext>();
    context_->set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(30)));
    shared_.running_calls.fetch_add(1);
    start(context_.get());
  }
  template <typename Fn>
  void At(absl::Time time, Fn next) {
    if (cycle_ == absl::ZeroDuration()) {
      next();
      return;
    }
    shared_.running_calls.fetch_add(1);
    alarm_.Set(absl::ToChronoTime(time), [this, next](bool) {
      if (!shared_.stop.load()) next();
      shared_.running_calls.fetch_sub(1);
    });
  }
  // Ends one call; false when the chain must stop.
  bool Done(const grpc::Status& status, const char* what) {
    const bool go_on = !shared_.stop.load() && status.ok();
    if (!status.ok() && !shared_.stop.load()) {
      std::fprintf(stderr, "%s: %s\n", what, status.error_message().c_str());
    }
    shared_.running_calls.fetch_sub(1);
    return go_on;
  }

  void Lease() {
    lease_response_.Clear();
    started_ = absl::Now();
    Async([this](grpc::ClientContext* context) {
      experience_->async()->LeasePrompts(context, &lease_request_, &lease_response_,
                                         [this](const grpc::Status& status) { OnLeases(status); });
    });
  }

  void OnLeases(const grpc::Status& status) {
    const double elapsed_ms = absl::ToDoubleMilliseconds(absl::Now() - started_);
    if (status.ok() && !lease_response_.leases().empty()) {
      shared_.leases.fetch_add(lease_response_.leases_size());
      MutexLock lock(shared_.mu);
      shared_.latencies_ms.push_back(static_cast<float>(elapsed_ms));
    }
    next_ = 0;
    if (Done(status, "LeasePrompts")) At(started_ + cycle_, [this] { NextSubmit(); });
  }

  void NextSubmit() {
    if (next_ == lease_response_.leases_size()) {
      Lease();
      return;
    }
    const v1::PromptLease& lease = lease_response_.leases(next_);
    if (lease.policy_version() > held_version_ || held_version_ < 0) {
      FetchManifest(lease.policy_version());
      return;
    }
    submit_request_.Clear();
    submit_response_.Clear();
    submit_request_.set_worker_id(worker_id_);
    submit_request_.set_lease_id(lease.lease_id());
    for (int32_t index : lease.sample_indices()) {
      v1::Trajectory& trajectory = *submit_request_.add_trajectories();
      v1::SampleKey& key = *trajectory.mutable_key();
      key.set_job_id(lease.job_id());
      key.set_iteration(lease.iteration());
      key.set_prompt_id(lease.prompt_id());
      key.set_sample_index(index);
      key.set_purpose(lease.purpose());
      *trajectory.mutable_prompt_token_ids() = lease.prompt_token_ids();
      v1::Segment& segment = *trajectory.add_segments();
      segment.set_kind(v1::SEGMENT_KIND_POLICY);
      segment.set_policy_version(held_version_);
      for (int token = 0; token < 4; ++token) {
        segment.add_token_ids(48 + token);
        segment.add_behavior_logprobs(-1.0f);
      }
      trajectory.set_finish_reason(v1::FINISH_REASON_LENGTH);
      trajectory.set_worker_id(worker_id_);
    }
    Async([this](grpc::ClientContext* context) {
      experience_->async()->SubmitTrajectories(
          context, &submit_request_, &submit_response_, [this](const grpc::Status& submit_status) {
            for (const v1::SubmitResult& result : submit_response_.results()) {
              if (result.outcome() == v1::SUBMIT_OUTCOME_ACCEPTED) {
                shared_.accepted.fetch_add(1);
              } else if (shared_.not_accepted.fetch_add(1) < 3 && !shared_.stop.load()) {
                std::fprintf(stderr, "not accepted: %s\n", result.message().c_str());
              }
            }
            ++next_;
            if (Done(submit_status, "SubmitTrajectories")) NextSubmit();
          });
    });
  }

  void FetchManifest(int64_t version) {
    manifest_request_.set_worker_id(worker_id_);
    manifest_request_.set_job_id(shared_.job_id);
    manifest_request_.set_policy_version(version);
    *manifest_request_.mutable_wait() = ToProto(kWait);
    manifest_response_.Clear();
    Async([this](grpc::ClientContext* context) {
      policy_->async()->GetManifest(context, &manifest_request_, &manifest_response_,
                                    [this](const grpc::Status& status) {
                                      if (Done(status, "GetManifest")) SendReceipt();
                                    });
    });
  }

  void SendReceipt() {
    if (!manifest_response_.has_manifest()) {
      NextSubmit();
      return;
    }
    v1::WeightReceipt& receipt = *receipt_request_.mutable_receipt();
    receipt.set_job_id(shared_.job_id);
    receipt.set_policy_version(manifest_response_.manifest().policy_version());
    receipt.set_worker_id(worker_id_);
    receipt.set_hash(manifest_response_.manifest().hash());
    receipt.set_transport("grpc");
    Async([this](grpc::ClientContext* context) {
      policy_->async()->SubmitReceipt(context, &receipt_request_, &receipt_response_,
                                      [this](const grpc::Status& status) {
                                        held_version_ = receipt_request_.receipt().policy_version();
                                        if (Done(status, "SubmitReceipt")) NextSubmit();
                                      });
    });
  }

  Shared& shared_;
  const absl::Duration cycle_;
  const absl::Duration offset_;
  grpc::Alarm alarm_;
  std::unique_ptr<v1::ExperienceService::Stub> experience_;
  std::unique_ptr<v1::PolicyService::Stub> policy_;
  std::string worker_id_;
  std::unique_ptr<grpc::ClientContext> context_;
  v1::LeasePromptsRequest lease_request_;
  v1::LeasePromptsResponse lease_response_;
  v1::SubmitTrajectoriesRequest submit_request_;
  v1::SubmitTrajectoriesResponse submit_response_;
  v1::GetManifestRequest manifest_request_;
  v1::GetManifestResponse manifest_response_;
  v1::SubmitReceiptRequest receipt_request_;
  v1::SubmitReceiptResponse receipt_response_;
  absl::Time started_;
  int next_ = 0;
  int64_t held_version_ = -1;
};

std::string RegisterAs(Shared& shared, v1::ProcessRole role, const std::string& name) {
  auto fleet = v1::FleetService::NewStub(shared.channels[0]);
  v1::RegisterRequest request;
  request.set_role(role);
  request.set_name(name);
  request.set_host("localhost");
  request.set_pid(getpid());
  v1::RegisterResponse response;
  Require(Call(*fleet, &v1::FleetService::Stub::Register, request, &response), "Register");
  return response.worker_id();
}

void HeartbeatLoop(Shared& shared, std::vector<std::string> worker_ids) {
  auto fleet = v1::FleetService::NewStub(shared.channels[0]);
  uint64_t progress = 0;
  while (!shared.stop.load()) {
    ++progress;
    for (const std::string& id : worker_ids) {
      v1::HeartbeatRequest request;
      request.set_worker_id(id);
      request.set_phase("simulated");
      request.set_progress(progress);
      v1::HeartbeatResponse response;
      (void)Call(*fleet, &v1::FleetService::Stub::Heartbeat, request, &response);
      if (shared.stop.load()) return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
}

// Scores everything with a constant.
void RewardLoop(Shared& shared, const std::string& worker_id) {
  auto experience = v1::ExperienceService::NewStub(shared.channels[1]);
  while (!shared.stop.load()) {
    v1::LeaseScoresRequest request;
    request.set_worker_id(worker_id);
    request.set_max_tasks(512);
    *request.mutable_wait() = ToProto(absl::Milliseconds(500));
    v1::LeaseScoresResponse response;
    const Status status =
        Call(*experience, &v1::ExperienceService::Stub::LeaseScores, request, &response);
    if (!status.ok() || response.tasks().empty()) continue;
    v1::SubmitScoresRequest scores;
    scores.set_worker_id(worker_id);
    for (const v1::ScoreTask& task : response.tasks()) {
      v1::LeasedScore& leased = *scores.add_scores();
      leased.set_lease_id(task.lease_id());
      *leased.mutable_score()->mutable_key() = task.trajectory().key();
      leased.mutable_score()->set_reward(0.5);
    }
    v1::SubmitScoresResponse scored;
    (void)Call(*experience, &v1::ExperienceService::Stub::SubmitScores, scores, &scored);
  }
}

v1::WeightManifest TinyManifest(const std::string& job_id, int64_t version, int64_t epoch) {
  v1::WeightManifest manifest;
  manifest.set_job_id(job_id);
  manifest.set_policy_version(version);
  manifest.set_epoch(epoch);
  manifest.set_total_bytes(4);
  v1::TensorEntry& tensor = *manifest.add_tensors();
  tensor.set_name("weight");
  tensor.set_dtype(v1::DTYPE_F32);
  tensor.add_shape(1);
  tensor.set_size_bytes(4);
  tensor.set_hash(std::string(16, '\1'));
  manifest.add_sources()->mutable_grpc()->set_address("127.0.0.1:1");
  manifest.set_hash(std::string(16, '\2'));
  return manifest;
}

// Commits each batch as soon as it is there.
void LearnerLoop(Shared& shared, const std::string& worker_id) {
  auto learner = v1::LearnerService::NewStub(shared.channels[2]);
  using Stub = v1::LearnerService::Stub;
  v1::Assignment assignment;
  while (!shared.stop.load() && assignment.job_id().empty()) {
    v1::AcquireAssignmentRequest request;
    request.set_worker_id(worker_id);
    *request.mutable_wait() = ToProto(kWait);
    v1::AcquireAssignmentResponse response;
    Require(Call(*learner, &Stub::AcquireAssignment, request, &response), "AcquireAssignment");
    assignment = response.assignment();
  }
  v1::GroupMember member;
  member.set_worker_id(worker_id);
  member.set_job_id(assignment.job_id());
  member.set_epoch(assignment.epoch());
  {
    v1::OfferPolicyRequest request;
    *request.mutable_member() = member;
    *request.mutable_manifest() = TinyManifest(assignment.job_id(), 0, assignment.epoch());
    v1::OfferPolicyResponse response;
    Require(Call(*learner, &Stub::OfferPolicy, request, &response), "OfferPolicy");
  }
  for (int64_t step = 1; !shared.stop.load();) {
    v1::AcquireBatchRequest request;
    *request.mutable_member() = member;
    request.set_step(step);
    *request.mutable_wait() = ToProto(kWait);
    v1::AcquireBatchResponse response;
    const Status status =
        Call(*learner, &Stub::AcquireBatch, request, &response, {.timeout = absl::Seconds(60)});
    if (shared.stop.load()) return;
    Require(status, "AcquireBatch");
    if (!response.has_batch()) continue;
    v1::CommitStepRequest commit;
    *commit.mutable_member() = member;
    commit.set_step(step);
    *commit.mutable_manifest() = TinyManifest(assignment.job_id(), step, assignment.epoch());
    commit.set_optimizer_updates(1);
    v1::CommitStepResponse committed;
    Require(Call(*learner, &Stub::CommitStep, commit, &committed, {.timeout = absl::Seconds(60)}),
            "CommitStep");
    v1::ReportCheckpointRequest checkpoint;
    *checkpoint.mutable_member() = member;
    checkpoint.set_step(step);
    checkpoint.set_directory(assignment.run_dir() + "/checkpoints/none");
    v1::ReportCheckpointResponse reported;
    Require(Call(*learner, &Stub::ReportCheckpoint, checkpoint, &reported), "ReportCheckpoint");
    shared.offered_version.store(step);
    ++step;
  }
}

std::string MachineName() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  std::string model = "unknown processor";
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) == 0) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  }
  return model + ", " + std::to_string(std::thread::hardware_concurrency()) + " cores";
}

void Report(const BenchOptions& options, const nlohmann::ordered_json& rows) {
  if (options.json) {
    std::cout << nlohmann::ordered_json{{"bench", "control-plane"},
                                        {"machine", MachineName()},
                                        {"rows", rows}}
                     .dump()
              << "\n";
    return;
  }
  std::printf("control-plane on %s\n", MachineName().c_str());
  for (const auto& row : rows) {
    std::printf("  %-46s%-40s%12.3f %s\n", row["case"].get<std::string>().c_str(),
                row["figure"].get<std::string>().c_str(), row["value"].get<double>(),
                row["unit"].get<std::string>().c_str());
  }
}

// One case; adds its figures to `rows`. rate 0: saturated.
void Run(const BenchOptions& options, int64_t samples, int rate, nlohmann::ordered_json& rows) {
  const fs::path bin = fs::read_symlink("/proc/self/exe").parent_path();
  std::string pattern = (fs::temp_directory_path() / "rollcall-bench-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) Fail("cannot make a temporary directory");
  const fs::path work = pattern;

  const pid_t init = Spawn({(bin / "rollcall").string(), "init-model", (work / "model").string(),
                            "--hidden-size", "32", "--layers", "1", "--heads", "2", "--kv-heads",
                            "1", "--intermediate-size", "32", "--max-positions", "64", "--tie"});
  int exit_status = 0;
  waitpid(init, &exit_status, 0);
  if (exit_status != 0) Fail("rollcall init-model failed");
  {
    std::ofstream prompts(work / "prompts.jsonl");
    for (int i = 0; i < kPromptsPerStep; ++i) {
      prompts << "{\"prompt\": \"sort " << i << " = \", \"answer\": \"" << i << "\"}\n";
    }
  }
  const int64_t steps = samples / kPromptsPerStep + 8;
  const std::string job_yaml =
      "run: {name: bench, output_dir: runs, deterministic: false}\n"
      "model: {path: model}\n"
      "data: {path: prompts.jsonl}\n"
      "rollout: {samples_per_prompt: 1, max_new_tokens: 8}\n"
      "reward:\n  scorers:\n    - {type: exact_match}\n"
      "algorithm: {advantage: return_to_go, loss: reinforce, aggregation: token_mean, "
      "pair_builder: none,"
      " correction: none, kl: {placement: none}}\n"
      "sync: {max_staleness: 2}\n"
      "train: {total_steps: " +
      std::to_string(steps) + ", prompts_per_step: " + std::to_string(kPromptsPerStep) +
      "}\n"
      "resources: {learner_ranks: 1}\n";
  auto spec = ParseJobFile(job_yaml, "bench.yaml", work.string());
  Require(spec.status(), "job file");

  const fs::path ready = work / "ready.json";
  const pid_t coordinator =
      Spawn({(bin / "rollcall-coordinator").string(), "--name", "coordinator", "--listen",
             "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--state-dir",
             (work / "state").string(), "--ready-file", ready.string(), "--log-level", "warning"});
  std::string address;
  for (int i = 0; i < 500 && address.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (auto text = ReadFile(ready.string(), 1 << 16); text.ok()) {
      address = nlohmann::json::parse(*text).at("address").get<std::string>();
    }
  }
  if (address.empty()) Fail("the coordinator did not start");

  Shared shared;
  for (int i = 0; i < kNumChannels; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt("rollcall.channel", i);  // separate connections
    arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
    shared.channels.push_back(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }
  const std::string learner_id = RegisterAs(shared, v1::PROCESS_ROLE_LEARNER, "learner-0");
  const std::string reward_id = RegisterAs(shared, v1::PROCESS_ROLE_REWARD, "reward-0");
  {
    auto jobs = v1::JobService::NewStub(shared.channels[0]);
    v1::SubmitJobRequest request;
    *request.mutable_spec() = *spec;
    request.set_request_id("bench");
    v1::SubmitJobResponse response;
    Require(Call(*jobs, &v1::JobService::Stub::SubmitJob, request, &response,
                 {.timeout = absl::Seconds(60)}),
            "SubmitJob");
    shared.job_id = response.job_id();
  }
  std::vector<std::unique_ptr<SimulatedWorker>> workers;
  std::vector<std::string> ids = {learner_id, reward_id};
  const absl::Duration cycle =
      rate == 0 ? absl::ZeroDuration()
                : absl::Seconds(1) * options.workers * options.leases_per_call / rate;
  for (int i = 0; i < options.workers; ++i) {
    workers.push_back(std::make_unique<SimulatedWorker>(shared, i, options.leases_per_call, cycle,
                                                        cycle * i / options.workers));
    ids.push_back(workers.back()->worker_id());
  }
  std::vector<std::jthread> threads;
  threads.emplace_back(HeartbeatLoop, std::ref(shared), ids);
  threads.emplace_back(RewardLoop, std::ref(shared), reward_id);
  threads.emplace_back(LearnerLoop, std::ref(shared), learner_id);

  const absl::Time started = absl::Now();
  for (auto& worker : workers) worker->Start();
  int64_t early_bytes = 0;
  while (shared.accepted.load() < samples) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (early_bytes == 0 && shared.accepted.load() >= samples / 5) {
      early_bytes = ResidentBytes(coordinator);
    }
    if (absl::Now() - started > absl::Minutes(15)) Fail("no end after 15 minutes");
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - started);
  const int64_t late_bytes = ResidentBytes(coordinator);
  const int64_t leases = shared.leases.load();
  shared.stop.store(true);
  std::vector<float> latencies;
  {
    MutexLock lock(shared.mu);
    latencies = shared.latencies_ms;
  }
  std::sort(latencies.begin(), latencies.end());
  const auto percentile = [&latencies](double p) {
    return latencies.empty()
               ? 0.0
               : static_cast<double>(
                     latencies[static_cast<size_t>(p * static_cast<double>(latencies.size() - 1))]);
  };
  const std::string name = std::to_string(options.workers) + " workers, " +
                           std::to_string(options.leases_per_call) + " leases a call, " +
                           (rate == 0 ? "saturated" : std::to_string(rate) + " leases/s");
  const auto add = [&rows, &name](const std::string& figure, const std::string& unit,
                                  double value) {
    rows.push_back({{"case", name}, {"figure", figure}, {"unit", unit}, {"value", value}});
  };
  add("leases issued, answered and journaled", "1/s", static_cast<double>(leases) / seconds);
  add("samples accepted", "samples", static_cast<double>(shared.accepted.load()));
  add("samples not accepted", "samples", static_cast<double>(shared.not_accepted.load()));
  add("LeasePrompts latency, p50", "ms", percentile(0.5));
  add("LeasePrompts latency, p99", "ms", percentile(0.99));
  add("coordinator memory after a fifth", "MiB", static_cast<double>(early_bytes) / (1 << 20));
  add("coordinator memory at the end", "MiB", static_cast<double>(late_bytes) / (1 << 20));
  add("committed steps", "steps", static_cast<double>(shared.offered_version.load()));

  kill(coordinator, SIGTERM);
  for (int i = 0; i < 400 && shared.running_calls.load() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  threads.clear();
  kill(coordinator, SIGKILL);
  waitpid(coordinator, nullptr, 0);
  std::error_code ignored;
  fs::remove_all(work, ignored);
}

}  // namespace
}  // namespace rollcall

int main(int argc, char** argv) {
  // As the daemons do: see services/common/daemon.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  rollcall::BenchOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&]() -> int64_t {
      if (i + 1 >= argc) rollcall::Fail(argument + " wants a number");
      return std::atoll(argv[++i]);
    };
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--workers") {
      options.workers = static_cast<int>(value());
    } else if (argument == "--samples") {
      options.samples = value();
    } else if (argument == "--leases-per-call") {
      options.leases_per_call = static_cast<int>(value());
    } else if (argument == "--rate") {
      options.rate = static_cast<int>(value());
    } else {
      rollcall::Fail("unknown option " + argument +
                     "; known: --json --workers --samples --leases-per-call --rate");
    }
  }
  if (options.workers < 1 || options.samples < 1 || options.leases_per_call < 1 ||
      options.rate < 1) {
    rollcall::Fail("every number must be at least 1");
  }
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  rollcall::Run(options, options.samples, 0, rows);
  // As long as half a minute.
  rollcall::Run(options, std::min<int64_t>(options.samples, 30 * options.rate), options.rate, rows);
  rollcall::Report(options, rows);
  return 0;
}
