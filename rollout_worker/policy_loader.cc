#include "rollout_worker/policy_loader.h"

#include <algorithm>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "rollout_worker/runner/backend.h"
#include "rollout_worker/runner/decoder_runner.h"
#include "services/common/rpc/client.h"
#include "services/common/sampling/sampling_codec.h"
#include "services/common/storage/files.h"
#include "services/weight_sync/manifest_codec.h"
#include "services/weight_sync/weight_fetcher.h"

namespace rollcall {
namespace {

constexpr absl::Duration kManifestWait = absl::Milliseconds(200);
constexpr absl::Duration kRetryPause = absl::Milliseconds(50);
constexpr uint64_t kMaxConfigBytes = 1 << 20;
// Versions remembered per job; the engine holds far fewer.
constexpr size_t kMaxVersions = 16;

v1::GetManifestRequest ToRequest(const WantedPolicy& wanted, const std::string& worker_id) {
  v1::GetManifestRequest request;
  request.set_worker_id(worker_id);
  request.set_job_id(wanted.job_id);
  request.set_policy_version(wanted.policy_version);
  request.set_exact_version(wanted.exact);
  request.mutable_wait()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(kManifestWait)));
  return request;
}

UpdateMode FromProto(v1::SyncSpec::UpdateMode mode) {
  switch (mode) {
    case v1::SyncSpec::PAUSE:
      return UpdateMode::kRecompute;
    case v1::SyncSpec::IN_FLIGHT:
      return UpdateMode::kKeep;
    default:
      return UpdateMode::kDrain;
  }
}

// The grammar of a job's completions over the tokens of its model; null when it has none.
StatusOr<std::shared_ptr<const TokenGrammar>> LoadGrammar(const v1::JobSpec& spec,
                                                          const ModelConfig& config) {
  if (!spec.rollout().has_grammar()) return nullptr;
  ROLLCALL_ASSIGN_OR_RETURN(const v1::SamplingParams params, ParamsFromSpec(spec.rollout()));
  if (!params.has_grammar()) return nullptr;
  ROLLCALL_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(spec.model().path()));
  return MakeTokenGrammar(params.grammar(), *tokenizer, config.vocab_size, config.eos_token_ids);
}

}  // namespace

PolicyLoader::PolicyLoader(const PolicyLoaderOptions& options, PolicyEvents events,
                           std::shared_ptr<grpc::Channel> coordinator, FleetClient& fleet,
                           RolloutMetrics& metrics, Logger& logger, const Clock& clock)
    : options_(options),
      events_(std::move(events)),
      experience_(v1::ExperienceService::NewStub(coordinator)),
      policy_(v1::PolicyService::NewStub(coordinator)),
      fleet_(fleet),
      metrics_(metrics),
      logger_(logger),
      clock_(clock),
      thread_([this] { Loop(); }) {}

PolicyLoader::~PolicyLoader() { Stop(); }

void PolicyLoader::Stop() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void PolicyLoader::Want(uint64_t ticket, const WantedPolicy& wanted, absl::Time deadline) {
  const std::string worker_id = fleet_.worker_id(absl::ZeroDuration());
  std::optional<ModelId> usable;
  {
    MutexLock lock(mu_);
    Job& job = jobs_[wanted.job_id];
    usable = FindUsable(wanted, worker_id);
    if (!usable) {
      tickets_[ticket] = Ticket{wanted, deadline};
      changed_.NotifyAll();
    } else if (!wanted.exact && !refresh_ &&
               clock_.Now() - job.refreshed > options_.refresh_interval) {
      job.refreshed = clock_.Now();
      refresh_ = WantedPolicy{wanted.job_id, job.versions.rbegin()->first + 1, false};
      changed_.NotifyAll();
    }
  }
  if (usable) events_.on_usable(ticket, *usable);
}

void PolicyLoader::Forget(uint64_t ticket) {
  MutexLock lock(mu_);
  tickets_.erase(ticket);
}

void PolicyLoader::ModelDropped(const std::string& job_id, ModelId id) {
  MutexLock lock(mu_);
  const auto job = jobs_.find(job_id);
  if (job == jobs_.end()) return;
  std::erase_if(job->second.versions, [&](const auto& entry) { return entry.second.id == id; });
}

void PolicyLoader::DropJob(const std::string& job_id) {
  MutexLock lock(mu_);
  jobs_.erase(job_id);
  std::erase_if(tickets_, [&](const auto& entry) { return entry.second.wanted.job_id == job_id; });
  if (refresh_ && refresh_->job_id == job_id) refresh_.reset();
}

StatusOr<ModelId> PolicyLoader::FindLoaded(const std::string& job_id,
                                           int64_t policy_version) const {
  MutexLock lock(mu_);
  const auto job = jobs_.find(job_id);
  if (job != jobs_.end()) {
    const auto version = job->second.versions.find(policy_version);
    if (version != job->second.versions.end() && !version->second.receipt_worker.empty()) {
      return version->second.id;
    }
  }
  return NotFound(
      fmt::format("policy version {} of job {} is not loaded here", policy_version, job_id));
}

std::optional<ModelId> PolicyLoader::FindUsable(const WantedPolicy& wanted,
                                                const std::string& worker_id) {
  const auto job = jobs_.find(wanted.job_id);
  if (job == jobs_.end() || job->second.versions.empty() || worker_id.empty()) {
    return std::nullopt;
  }
  const auto& versions = job->second.versions;
  const auto found =
      wanted.exact ? versions.find(wanted.policy_version) : std::prev(versions.end());
  if (found == versions.end() || found->first < wanted.policy_version) return std::nullopt;
  const Version& version = found->second;
  if (version.receipt_worker != worker_id) return std::nullopt;
  if (clock_.Now() - version.checked > options_.recheck_interval) return std::nullopt;
  return version.id;
}

void PolicyLoader::Loop() {
  while (true) {
    {
      MutexLock lock(mu_);
      if (stopping_) return;
    }
    ExpireTickets();
    const std::optional<WantedPolicy> wanted = NextWanted();
    if (!wanted) continue;
    const Attempt attempt = TryMakeUsable(*wanted);
    Settle(*wanted, attempt);
    if (!attempt.failure && !attempt.status.ok()) Pause(kRetryPause);
  }
}

std::optional<WantedPolicy> PolicyLoader::NextWanted() {
  MutexLock lock(mu_);
  if (tickets_.empty() && !refresh_ && !stopping_) changed_.WaitFor(mu_, absl::Milliseconds(200));
  if (!tickets_.empty()) {
    auto ticket = tickets_.upper_bound(last_served_);
    if (ticket == tickets_.end()) ticket = tickets_.begin();
    last_served_ = ticket->first;
    is_looking_ = false;
    return ticket->second.wanted;
  }
  is_looking_ = true;
  if (refresh_) return std::exchange(refresh_, std::nullopt);
  return OverdueRefresh();
}

std::optional<WantedPolicy> PolicyLoader::OverdueRefresh() {
  const absl::Time now = clock_.Now();
  for (auto& [job_id, job] : jobs_) {
    if (!job.model || job.model->update_mode == UpdateMode::kDrain) continue;
    if (job.versions.empty()) continue;
    if (now - job.refreshed <= options_.refresh_interval) continue;
    job.refreshed = now;
    return WantedPolicy{job_id, job.versions.rbegin()->first + 1, false};
  }
  return std::nullopt;
}

void PolicyLoader::Settle(const WantedPolicy& wanted, const Attempt& attempt) {
  const std::string worker_id = fleet_.worker_id(absl::ZeroDuration());
  std::vector<std::pair<uint64_t, ModelId>> usable;
  std::vector<uint64_t> failed;
  {
    MutexLock lock(mu_);
    for (auto it = tickets_.begin(); it != tickets_.end();) {
      const bool asked_this = it->second.wanted == wanted;
      const auto id = FindUsable(it->second.wanted, worker_id);
      if (asked_this && attempt.status.ok()) {
        usable.emplace_back(it->first, attempt.id);
      } else if (id) {
        usable.emplace_back(it->first, *id);
      } else if (asked_this && attempt.failure) {
        failed.push_back(it->first);
      } else {
        ++it;
        continue;
      }
      it = tickets_.erase(it);
    }
  }
  for (const auto& [ticket, id] : usable) events_.on_usable(ticket, id);
  if (attempt.status.ok() && !wanted.exact && events_.on_newest) {
    events_.on_newest(wanted.job_id, attempt.id);
  }
  for (const uint64_t ticket : failed) events_.on_failed(ticket, *attempt.failure);
  // There may be no newer version, now or ever.
  if (is_looking_) return;
  // A state that lasts is said once.
  const std::string message = attempt.failure ? attempt.failure->message : Message(attempt.status);
  if (!message.empty() && message != last_logged_) {
    logger_.Warning(fmt::format("policy version is not usable: {} job={} version={}", message,
                                wanted.job_id, wanted.policy_version));
  }
  last_logged_ = message;
}

void PolicyLoader::ExpireTickets() {
  std::vector<uint64_t> expired;
  {
    MutexLock lock(mu_);
    const absl::Time now = clock_.Now();
    std::erase_if(tickets_, [&](const auto& entry) {
      if (entry.second.deadline > now) return false;
      expired.push_back(entry.first);
      return true;
    });
  }
  for (const uint64_t ticket : expired) {
    events_.on_failed(ticket,
                      {.kind = WorkFailure::Kind::kInfrastructure,
                       .reason = "deadline",
                       .message = "the weights were not usable before the lease's deadline"});
  }
}

void PolicyLoader::Pause(absl::Duration time) {
  MutexLock lock(mu_);
  const absl::Time until = absl::Now() + time;
  while (!stopping_ && absl::Now() < until) changed_.WaitFor(mu_, until - absl::Now());
}

PolicyLoader::Attempt PolicyLoader::FromRpc(const Status& status, const std::string& worker_id,
                                            const std::string& what) {
  switch (status.code()) {
    case StatusCode::kAborted:
      fleet_.Invalidate(worker_id);
      return {.status = status, .failure = std::nullopt};
    case StatusCode::kNotFound:
    case StatusCode::kInvalidArgument:
    case StatusCode::kFailedPrecondition:
    case StatusCode::kPermissionDenied:
    case StatusCode::kUnauthenticated:
    case StatusCode::kUnimplemented:
      return {.status = status,
              .failure = WorkFailure{.kind = WorkFailure::Kind::kInfrastructure,
                                     .reason = "policy_refused",
                                     .message = what + ": " + Message(status)}};
    default:
      return {.status = status, .failure = std::nullopt};
  }
}

PolicyLoader::Attempt PolicyLoader::TryMakeUsable(const WantedPolicy& wanted) {
  const std::string worker_id = fleet_.worker_id(kManifestWait);
  if (worker_id.empty()) {
    return {.status = Unavailable("this worker is not registered with the coordinator"),
            .failure = std::nullopt};
  }
  const StatusOr<std::optional<Manifest>> answer = GetManifest(wanted, worker_id);
  if (!answer.ok()) return FromRpc(answer.status(), worker_id, "the coordinator's manifest");
  if (!answer->has_value()) {
    return {.status = Unavailable("the version is not published yet"), .failure = std::nullopt};
  }
  const Manifest& manifest = **answer;
  const absl::Time seen = clock_.Now();
  Version version;
  const std::optional<Version> known = FindVersion(manifest);
  if (known) {
    version = *known;
  } else {
    Attempt loaded = Load(manifest, &version);
    if (!loaded.status.ok()) return loaded;
  }
  version.checked = clock_.Now();
  if (version.receipt_worker != worker_id) {
    // Remembered first: a receipt that does not get through must not cost another fetch.
    Store(manifest, version, !wanted.exact);
    const absl::Duration took = clock_.Now() - seen;
    const Status sent = SendReceipt(manifest, version, worker_id, took);
    if (!sent.ok()) return FromRpc(sent, worker_id, "the coordinator's answer to the receipt");
    version.receipt_worker = worker_id;
    if (!known) {
      metrics_.Switched(manifest.policy_version, absl::ToDoubleSeconds(clock_.Now() - seen));
      logger_.Info(fmt::format(
          "policy version is usable job={} version={} transport={} seconds={:.3f}", manifest.job_id,
          manifest.policy_version, version.transport, absl::ToDoubleSeconds(clock_.Now() - seen)));
    }
  }
  Store(manifest, version, !wanted.exact);
  return {.status = OkStatus(), .failure = std::nullopt, .id = version.id};
}

StatusOr<std::optional<Manifest>> PolicyLoader::GetManifest(const WantedPolicy& wanted,
                                                            const std::string& worker_id) {
  v1::GetManifestResponse response;
  ROLLCALL_RETURN_IF_ERROR(Call(*policy_, &v1::PolicyService::Stub::GetManifest,
                                ToRequest(wanted, worker_id), &response,
                                {.timeout = kManifestWait + absl::Seconds(5)}));
  if (!response.has_manifest()) return std::optional<Manifest>();
  ROLLCALL_ASSIGN_OR_RETURN(Manifest manifest, ManifestFromProto(response.manifest()));
  const bool fits = manifest.job_id == wanted.job_id &&
                    (wanted.exact ? manifest.policy_version == wanted.policy_version
                                  : manifest.policy_version >= wanted.policy_version);
  if (!fits) {
    return FailedPrecondition(fmt::format("asked for job {} version {}, got job {} version {}",
                                          wanted.job_id, wanted.policy_version, manifest.job_id,
                                          manifest.policy_version));
  }
  return std::optional<Manifest>(std::move(manifest));
}

std::optional<PolicyLoader::Version> PolicyLoader::FindVersion(const Manifest& manifest) {
  MutexLock lock(mu_);
  const auto job = jobs_.find(manifest.job_id);
  if (job == jobs_.end()) return std::nullopt;
  const auto version = job->second.versions.find(manifest.policy_version);
  if (version == job->second.versions.end() || version->second.hash != manifest.hash) {
    return std::nullopt;
  }
  return version->second;
}

void PolicyLoader::Store(const Manifest& manifest, const Version& version, bool newest) {
  MutexLock lock(mu_);
  const auto job = jobs_.find(manifest.job_id);
  if (job == jobs_.end()) return;  // it ended meanwhile
  auto& versions = job->second.versions;
  versions[manifest.policy_version] = version;
  if (newest) {
    // The coordinator names the newest version there is: larger numbers belong to steps that were
    // undone when the learners went back to a checkpoint.
    versions.erase(versions.upper_bound(manifest.policy_version), versions.end());
  }
  while (versions.size() > kMaxVersions) {
    versions.erase(
        std::min_element(versions.begin(), versions.end(),
                         [](const auto& a, const auto& b) { return a.second.id < b.second.id; }));
  }
}

PolicyLoader::Attempt PolicyLoader::ReadModel(const std::string& job_id, JobModel* model) {
  {
    MutexLock lock(mu_);
    const auto job = jobs_.find(job_id);
    if (job != jobs_.end() && job->second.model) {
      *model = *job->second.model;
      return {};
    }
  }
  v1::GetJobSpecRequest request;
  request.set_job_id(job_id);
  v1::GetJobSpecResponse response;
  const Status status = Call(*experience_, &v1::ExperienceService::Stub::GetJobSpec, request,
                             &response, {.timeout = absl::Seconds(5), .max_attempts = 3});
  if (!status.ok()) return FromRpc(status, "", "the job's spec");
  const std::string path = response.spec().model().path() + "/config.json";
  const auto parsed = [&]() -> StatusOr<ModelConfig> {
    ROLLCALL_ASSIGN_OR_RETURN(const std::string json, ReadFile(path, kMaxConfigBytes));
    return ParseModelConfig(json, path);
  }();
  if (!parsed.ok()) {
    return {.status = parsed.status(),
            .failure = WorkFailure{.kind = WorkFailure::Kind::kInfrastructure,
                                   .reason = "model_config",
                                   .message = Message(parsed.status())}};
  }
  model->config = *parsed;
  if (response.spec().model().dtype() == v1::ModelSpec::BFLOAT16) {
    model->config.precision = Precision::kBFloat16;
  }
  if (response.spec().rollout().quantization() == v1::RolloutSpec::INT8) {
    model->quantization = Quantization::kInt8;
  }
  model->update_mode = FromProto(response.spec().sync().update_mode());
  auto grammar = LoadGrammar(response.spec(), *parsed);
  if (!grammar.ok()) {
    return {.status = grammar.status(),
            .failure = WorkFailure{.kind = WorkFailure::Kind::kInfrastructure,
                                   .reason = "grammar",
                                   .message = Message(grammar.status())}};
  }
  model->grammar = *std::move(grammar);
  MutexLock lock(mu_);
  const auto job = jobs_.find(job_id);
  if (job != jobs_.end()) job->second.model = *model;
  return {};
}

std::shared_ptr<const TokenGrammar> PolicyLoader::GrammarOf(const std::string& job_id) const {
  MutexLock lock(mu_);
  const auto job = jobs_.find(job_id);
  return job == jobs_.end() || !job->second.model ? nullptr : job->second.model->grammar;
}

PolicyLoader::Attempt PolicyLoader::Load(const Manifest& manifest, Version* version) {
  JobModel job_model;
  Attempt read = ReadModel(manifest.job_id, &job_model);
  if (!read.status.ok()) return read;
  const StatusOr<FetchedWeights> fetched =
      FetchWeights(manifest, options_.tls, options_.fetch_timeout);
  if (!fetched.ok()) {
    if (fetched.status().code() != StatusCode::kDataLoss) {
      return {.status = fetched.status(), .failure = std::nullopt};
    }
    metrics_.WeightsRefused();
    return {.status = fetched.status(),
            .failure = WorkFailure{.kind = WorkFailure::Kind::kInfrastructure,
                                   .reason = "corrupt_weights",
                                   .message = Message(fetched.status())}};
  }
  metrics_.WeightsFetched(fetched->transport, fetched->seconds);
  std::vector<TensorLayout> layout;
  layout.reserve(manifest.tensors.size());
  for (const ManifestTensor& tensor : manifest.tensors) layout.push_back(tensor.layout);
  auto model =
      options_.backend == nullptr
          ? BuildRunnableModel(job_model.config, layout, fetched->snapshot, job_model.quantization)
          : options_.backend->BuildModel(job_model.config, layout, fetched->snapshot,
                                         job_model.quantization);
  if (!model.ok()) {
    const bool mismatch = model.status().code() == StatusCode::kInvalidArgument;
    if (mismatch) metrics_.WeightsRefused();
    return {.status = model.status(),
            .failure = WorkFailure{.kind = WorkFailure::Kind::kInfrastructure,
                                   .reason = mismatch ? "weights_mismatch" : "load_failed",
                                   .message = Message(model.status())}};
  }
  *version = Version{.id = next_model_++,
                     .hash = manifest.hash,
                     .receipt_worker = "",
                     .transport = fetched->transport,
                     .checked = clock_.Now()};
  events_.on_model(UsableModel{.job_id = manifest.job_id,
                               .config = job_model.config,
                               .id = version->id,
                               .policy_version = manifest.policy_version,
                               .model = *std::move(model),
                               .update_mode = job_model.update_mode});
  return {};
}

Status PolicyLoader::SendReceipt(const Manifest& manifest, const Version& version,
                                 const std::string& worker_id, absl::Duration took) {
  v1::SubmitReceiptRequest request;
  v1::WeightReceipt& receipt = *request.mutable_receipt();
  receipt.set_job_id(manifest.job_id);
  receipt.set_policy_version(manifest.policy_version);
  receipt.set_worker_id(worker_id);
  receipt.set_hash(manifest.hash.data(), manifest.hash.size());
  receipt.set_seconds(absl::ToDoubleSeconds(took));
  receipt.set_transport(version.transport);
  v1::SubmitReceiptResponse response;
  return Call(*policy_, &v1::PolicyService::Stub::SubmitReceipt, request, &response,
              {.timeout = absl::Seconds(5), .max_attempts = 3});
}

}  // namespace rollcall
