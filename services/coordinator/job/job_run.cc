#include "services/coordinator/job/job_run.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/common/sampling/sampling_codec.h"
#include "services/coordinator/experience/staleness.h"

namespace rollcall::coordinator {
namespace {

constexpr int kMaxReformsWithoutCommit = 5;
constexpr absl::Duration kTraceInterval = absl::Seconds(10);
constexpr absl::Duration kStatusInterval = absl::Milliseconds(1500);

void AddStage(v1::JobStatus& status, const char* stage, const StageMeter& meter, absl::Time now,
              absl::Duration elapsed) {
  v1::StageTime& time = *status.add_stages();
  time.set_stage(stage);
  const absl::Duration busy = meter.busy(now);
  time.set_busy_seconds(absl::ToDoubleSeconds(busy));
  time.set_idle_seconds(absl::ToDoubleSeconds(std::max(absl::ZeroDuration(), elapsed - busy)));
}

// Marks the waiters that are over, removes them, and answers them by `answer`.
template <typename Waiter, typename Fn>
void TakeOverdue(std::vector<Waiter>& waiters, absl::Time now, Fn&& answer) {
  std::erase_if(waiters, [&](Waiter& waiter) {
    if (waiter.deadline > now && !waiter.call.gone()) return false;
    answer(waiter);
    return true;
  });
}

}  // namespace

JobRun::JobRun(JobRecord record, std::shared_ptr<const PreparedJob> prepared,
               JobEnvironment environment)
    : record_(std::move(record)), environment_(environment), prepared_(std::move(prepared)) {
  if (prepared_ != nullptr) {
    source_.emplace(prepared_->data.usable, spec().run().seed(), spec().data().shuffle(),
                    spec().train().prompts_per_step());
    auto sampling = ParamsFromSpec(spec().rollout());
    ROLLCALL_CHECK(sampling.ok(), "prepared jobs have a law");
    sampling_ = *std::move(sampling);
  }
}

JobRun::JobRun(JobRecord record, std::shared_ptr<const PreparedJob> prepared,
               JobEnvironment environment, absl::Time now)
    : JobRun(std::move(record), std::move(prepared), environment) {
  submitted_at_ = now;
  waiting_since_ = now;
  trace_written_ = now;
  status_sent_ = now;
}

StatusOr<std::unique_ptr<JobRun>> JobRun::Restore(StoredJob stored,
                                                  std::shared_ptr<const PreparedJob> prepared,
                                                  JobEnvironment environment, SqliteStore& store,
                                                  absl::Time now) {
  const JobNumber number = stored.record.job;
  std::unique_ptr<JobRun> run(
      new JobRun(std::move(stored.record), std::move(prepared), environment));
  const v1::JobStatus& status = stored.status;
  run->state_ = status.state() == v1::JOB_STATE_UNSPECIFIED ? v1::JOB_STATE_QUEUED : status.state();
  run->submitted_at_ = status.has_submitted_at() ? FromProto(status.submitted_at()) : now;
  if (status.has_started_at()) run->started_at_ = FromProto(status.started_at());
  if (status.has_ended_at()) run->ended_at_ = FromProto(status.ended_at());
  run->waiting_since_ = now;
  run->trace_written_ = now;
  run->status_sent_ = now;
  run->counts_ = status.samples();
  run->optimizer_updates_ = status.optimizer_updates();
  run->committed_ = status.step();
  run->last_metrics_.insert(status.metrics().begin(), status.metrics().end());
  run->group_.SetEpoch(status.epoch());
  const std::pair<const char*, StageMeter*> meters[] = {
      {"sample", &run->stages_.sample},   {"score", &run->stages_.score},
      {"build", &run->stages_.build},     {"update", &run->stages_.update},
      {"publish", &run->stages_.publish}, {"evaluate", &run->stages_.evaluate}};
  for (const v1::StageTime& stage : status.stages()) {
    for (const auto& [name, meter] : meters) {
      if (stage.stage() == name) meter->Restore(absl::Seconds(stage.busy_seconds()));
    }
  }
  ROLLCALL_ASSIGN_OR_RETURN(std::vector<StoredEvaluation> evaluations,
                            store.LoadEvaluations(number));
  for (StoredEvaluation& evaluation : evaluations) {
    const int64_t version = evaluation.result.policy_version();
    run->evaluations_[version] = std::move(evaluation);
  }
  if (run->ended()) {
    run->reason_ = status.state_reason();
    run->prepared_ = nullptr;
    return run;
  }
  ROLLCALL_RETURN_IF_ERROR(run->RestoreProgress(store));
  ROLLCALL_RETURN_IF_ERROR(run->RestoreSamples(store));
  return run;
}

Status JobRun::RestoreProgress(SqliteStore& store) {
  ROLLCALL_ASSIGN_OR_RETURN(checkpoint_, store.LastCheckpoint(record_.job));
  ROLLCALL_ASSIGN_OR_RETURN(const auto batches, store.LoadBatches(record_.job, committed_ + 1));
  formed_ = committed_;
  for (const auto& [step, num_samples] : batches) {
    formed_ = step;
    batch_samples_[step] = num_samples;
  }
  policy_.SetNewestKnown(committed_);
  ROLLCALL_ASSIGN_OR_RETURN(const auto receipts, store.LoadReceipts(record_.job));
  for (const StoredReceipt& receipt : receipts) {
    policy_.RecordReceipt(receipt.worker_name, receipt.policy_version);
  }

  // A line may have been lost with the coordinator: the file is made again from the journal.
  std::string lines;
  auto evaluation = evaluations_.begin();
  constexpr int64_t kPage = 1000;
  int64_t from = 1;
  while (true) {
    ROLLCALL_ASSIGN_OR_RETURN(const auto steps, store.LoadSteps(record_.job, from, kPage));
    for (const StepRecord& step : steps) {
      while (evaluation != evaluations_.end() && evaluation->first < step.step) {
        lines += MetricsLine((evaluation++)->second) + "\n";
      }
      lines += MetricsLine(step) + "\n";
    }
    if (static_cast<int64_t>(steps.size()) < kPage) break;
    from = steps.back().step + 1;
  }
  for (; evaluation != evaluations_.end(); ++evaluation) {
    lines += MetricsLine(evaluation->second) + "\n";
  }
  environment_.files.Replace(record_.job, metrics_path(),
                             [lines = std::move(lines)] { return lines; });
  return OkStatus();
}

Status JobRun::RestoreSamples(SqliteStore& store) {
  next_board_ = formed_;
  ROLLCALL_ASSIGN_OR_RETURN(const auto samples,
                            store.LoadSamples({.job = record_.job,
                                               .purpose = v1::SAMPLE_PURPOSE_TRAIN,
                                               .min_iteration = formed_,
                                               .max_iteration = total_steps()}));
  const int32_t samples_per_prompt = spec().rollout().samples_per_prompt();
  for (const StoredSample& stored : samples) {
    if (prepared_->from_dataset()) break;
    while (next_board_ <= stored.id.iteration) {
      boards_.try_emplace(next_board_, record_.job, v1::SAMPLE_PURPOSE_TRAIN, next_board_,
                          source_->Rows(next_board_), samples_per_prompt);
      ++next_board_;
    }
    RestoreSample(boards_.at(stored.id.iteration), stored);
  }
  if (!EvaluationWanted(committed_) || evaluations_.contains(committed_)) return OkStatus();
  ROLLCALL_ASSIGN_OR_RETURN(const auto evaluation_samples,
                            store.LoadSamples({.job = record_.job,
                                               .purpose = v1::SAMPLE_PURPOSE_EVALUATE,
                                               .min_iteration = committed_,
                                               .max_iteration = committed_}));
  if (evaluation_samples.empty()) return OkStatus();
  evaluation_.emplace(record_.job, v1::SAMPLE_PURPOSE_EVALUATE, committed_,
                      prepared_->evaluation.usable, spec().evaluate().samples_per_prompt());
  for (const StoredSample& stored : evaluation_samples) RestoreSample(*evaluation_, stored);
  return OkStatus();
}

void JobRun::RestoreSample(SampleBoard& board, const StoredSample& stored) {
  if (board.Find(stored.id) == nullptr) return;
  if (stored.trajectory != nullptr) board.MarkGenerated(stored.id, stored.trajectory);
  if (stored.score != nullptr) {
    board.Settle(stored.id, stored.score);
  } else {
    QueueScore(stored.id);
  }
}

bool JobRun::ended() const {
  return state_ == v1::JOB_STATE_SUCCEEDED || state_ == v1::JOB_STATE_FAILED ||
         state_ == v1::JOB_STATE_CANCELLED;
}

v1::JobStatus JobRun::Snapshot(absl::Time now) const {
  v1::JobStatus status;
  status.set_job_id(name());
  status.set_name(spec().run().name());
  status.set_state(state_);
  status.set_state_reason(ended() ? reason_ : wait_reason_);
  status.set_step(committed_);
  status.set_total_steps(total_steps());
  status.set_policy_version(std::max<int64_t>(0, std::max(policy_.newest_known(), committed_)));
  status.set_optimizer_updates(optimizer_updates_);
  *status.mutable_submitted_at() = ToProto(submitted_at_);
  const bool started = started_at_ != absl::Time();
  if (started) *status.mutable_started_at() = ToProto(started_at_);
  if (ended()) *status.mutable_ended_at() = ToProto(ended_at_);
  status.set_run_dir(record_.run_dir);
  *status.mutable_samples() = counts_;
  status.mutable_metrics()->insert(last_metrics_.begin(), last_metrics_.end());
  for (const auto& [version, evaluation] : evaluations_) {
    *status.add_evaluations() = evaluation.result;
  }
  status.set_epoch(group_.epoch());
  status.set_learners_present(ended() ? 0 : static_cast<int32_t>(group_.ranks().size()));
  status.set_learners_wanted(ranks_wanted());
  if (!ended() && commit_times_.size() >= 2) {
    const absl::Duration per_step = (commit_times_.back() - commit_times_.front()) /
                                    static_cast<double>(commit_times_.size() - 1);
    status.set_seconds_left(absl::ToDoubleSeconds(per_step) *
                            static_cast<double>(total_steps() - committed_));
  }
  const absl::Time end = ended() ? ended_at_ : now;
  const absl::Duration elapsed = started ? end - started_at_ : absl::ZeroDuration();
  AddStage(status, "sample", stages_.sample, end, elapsed);
  AddStage(status, "score", stages_.score, end, elapsed);
  AddStage(status, "build", stages_.build, end, elapsed);
  AddStage(status, "update", stages_.update, end, elapsed);
  AddStage(status, "publish", stages_.publish, end, elapsed);
  AddStage(status, "evaluate", stages_.evaluate, end, elapsed);
  return status;
}

Status JobRun::Pause(Turn& turn) {
  if (state_ == v1::JOB_STATE_PAUSED) return OkStatus();
  if (!running()) {
    return FailedPrecondition("only a running job can be paused; " + name() + " is " +
                              v1::JobState_Name(state_));
  }
  state_ = v1::JOB_STATE_PAUSED;
  wait_reason_ = "paused by the user";
  RecordStatus(turn);
  return OkStatus();
}

Status JobRun::Resume(Turn& turn) {
  if (running()) return OkStatus();
  if (state_ != v1::JOB_STATE_PAUSED) {
    return FailedPrecondition("only a paused job can be resumed; " + name() + " is " +
                              v1::JobState_Name(state_));
  }
  state_ = v1::JOB_STATE_RUNNING;
  wait_reason_.clear();
  RecordStatus(turn);
  return OkStatus();
}

Status JobRun::Cancel(Turn& turn) {
  if (state_ == v1::JOB_STATE_CANCELLED) return OkStatus();
  if (ended()) {
    return FailedPrecondition(name() + " ended already: " + v1::JobState_Name(state_));
  }
  End(turn, v1::JOB_STATE_CANCELLED, "cancelled by the user");
  return OkStatus();
}

void JobRun::Fail(Turn& turn, const std::string& reason) {
  if (ended()) return;
  End(turn, v1::JOB_STATE_FAILED, reason);
}

void JobRun::End(Turn& turn, v1::JobState state, const std::string& reason) {
  state_ = state;
  reason_ = reason;
  ended_at_ = turn.now;
  for (StageMeter* meter : {&stages_.sample, &stages_.score, &stages_.build, &stages_.update,
                            &stages_.publish, &stages_.evaluate}) {
    meter->Stop(turn.now);
  }
  if (state == v1::JOB_STATE_SUCCEEDED) {
    // The other ranks still collect their last, empty batch: the group stays as it is.
    environment_.logger.Info("job ended job=" + name() + " state=succeeded");
  } else {
    environment_.logger.Warning("job ended job=" + name() + " state=" + v1::JobState_Name(state) +
                                " reason=" + reason);
    FenceGroup(turn, "the job ended: " + reason);
  }
  for (ManifestWaiter& waiter : manifest_waiters_) {
    Reply(turn, waiter.call, FailedPrecondition(name() + " ended: " + reason));
  }
  manifest_waiters_.clear();
  WriteTrace();
  RecordStatus(turn);
  watchers_.clear();
  // Whatever is left belongs to nobody any more.
  policy_.WithdrawAll();
  boards_.clear();
  evaluation_.reset();
  train_scores_.clear();
  evaluation_scores_.clear();
  delayed_.clear();
  batches_.clear();
  batch_samples_.clear();
  wanted_reads_.clear();
  source_.reset();
  prepared_ = nullptr;
}

void JobRun::RecordStatus(Turn& turn) {
  v1::JobStatus status = Snapshot(turn.now);
  if (!watchers_.empty()) {
    v1::JobEvent event;
    *event.mutable_status() = status;
    Emit(turn, std::move(event));
  }
  turn.records.push_back(JobStatusRecord{record_.job, std::move(status)});
}

void JobRun::Emit(Turn& turn, v1::JobEvent event) {
  std::erase_if(watchers_, [](const auto& watcher) { return watcher->closed(); });
  if (watchers_.empty()) return;
  turn.on_durable.push_back(
      [watchers = watchers_, event = std::make_shared<const v1::JobEvent>(std::move(event))] {
        for (const auto& watcher : watchers) watcher->OnEvent(event);
      });
}

void JobRun::AddWatcher(Turn& turn, std::shared_ptr<JobWatcher> watcher) {
  auto event = std::make_shared<v1::JobEvent>();
  *event->mutable_status() = Snapshot(turn.now);
  turn.on_durable.push_back([watcher, event] { watcher->OnEvent(event); });
  if (!ended()) watchers_.push_back(std::move(watcher));
}

void JobRun::WriteTrace() {
  environment_.files.Replace(
      record_.job, record_.run_dir + "/trace.json",
      [trace = trace_, origin = submitted_at_] { return trace.ToJson(origin); });
}

std::string JobRun::MetricsLine(const StepRecord& step) {
  nlohmann::ordered_json line;
  line["step"] = step.step;
  line["time"] = UnixSeconds(step.time);
  line["policy_version"] = step.step;
  line["optimizer_updates"] = step.optimizer_updates;
  for (const auto& [key, value] : step.metrics) {
    if (!line.contains(key)) line[key] = value;
  }
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string JobRun::MetricsLine(const StoredEvaluation& evaluation) {
  const v1::EvaluationResult& result = evaluation.result;
  nlohmann::ordered_json line;
  line["evaluation"] = {{"policy_version", result.policy_version()},
                        {"accuracy", result.accuracy()},
                        {"mean_reward", result.mean_reward()},
                        {"num_samples", result.num_samples()},
                        {"num_failed", result.num_failed()}};
  line["time"] = UnixSeconds(evaluation.time);
  return line.dump();
}

// --- learner group

void JobRun::FormGroup(Turn& turn, std::vector<GroupRank> ranks) {
  last_rank_names_.clear();
  std::string names;
  for (const GroupRank& rank : ranks) {
    last_rank_names_.insert(rank.name);
    names += (names.empty() ? "" : ",") + rank.name;
  }
  group_.Form(std::move(ranks), checkpoint_.step);
  wait_reason_.clear();
  if (state_ == v1::JOB_STATE_QUEUED) {
    state_ = v1::JOB_STATE_RUNNING;
    started_at_ = turn.now;
  } else if (state_ == v1::JOB_STATE_PAUSED) {
    wait_reason_ = "paused by the user";
  }
  environment_.logger.Info("learner group formed job=" + name() +
                           " epoch=" + std::to_string(group_.epoch()) + " ranks=" + names +
                           " resume_step=" + std::to_string(checkpoint_.step));
  RecordStatus(turn);
}

v1::Assignment JobRun::AssignmentOf(int32_t rank) const {
  v1::Assignment assignment;
  assignment.set_job_id(name());
  assignment.set_epoch(group_.epoch());
  assignment.set_rank(rank);
  assignment.set_world_size(static_cast<int32_t>(group_.ranks().size()));
  *assignment.mutable_spec() = spec();
  assignment.set_run_dir(record_.run_dir);
  assignment.set_resume_step(group_.resume_step());
  if (group_.resume_step() > 0) assignment.set_checkpoint_dir(checkpoint_.directory);
  return assignment;
}

void JobRun::FenceGroup(Turn& turn, const std::string& reason) {
  group_.Fence(reason);
  policy_.WithdrawAll();
  stages_.update.Stop(turn.now);
  stages_.publish.Stop(turn.now);
  const Status fenced = Aborted("fenced: " + reason);
  for (BatchWaiter& waiter : batch_waiters_) Reply(turn, waiter.call, fenced);
  for (StoreWaiter& waiter : store_waiters_) Reply(turn, waiter.call, fenced);
  batch_waiters_.clear();
  store_waiters_.clear();
}

void JobRun::LoseGroup(Turn& turn, const std::string& reason) {
  if (ended() || !group_.active()) return;
  environment_.metrics.GroupFenced();
  environment_.logger.Warning("learner group fenced job=" + name() +
                              " epoch=" + std::to_string(group_.epoch()) + " reason=" + reason);
  FenceGroup(turn, reason);
  waiting_since_ = turn.now;
  if (++reforms_without_commit_ > kMaxReformsWithoutCommit) {
    Fail(turn, "the learner group failed " + std::to_string(reforms_without_commit_) +
                   " times without a new step; the last time: " + reason);
    return;
  }
  wait_reason_ = "the learner group re-forms: " + reason;
  RecordStatus(turn);
}

Status JobRun::CheckMember(const v1::GroupMember& member, int32_t only_rank) {
  ROLLCALL_RETURN_IF_ERROR(group_.Check(member));
  if (only_rank >= 0 && member.rank() != only_rank) {
    return InvalidArgument("only rank " + std::to_string(only_rank) + " makes this call, rank " +
                           std::to_string(member.rank()) + " did");
  }
  return OkStatus();
}

Status JobRun::StoreSet(Turn& turn, const v1::StoreSetRequest& request) {
  ROLLCALL_RETURN_IF_ERROR(CheckMember(request.member(), -1));
  ROLLCALL_RETURN_IF_ERROR(group_.StoreSet(request.key(), request.value()));
  AnswerStoreWaiters(turn, request.key());
  return OkStatus();
}

StatusOr<int64_t> JobRun::StoreAdd(Turn& turn, const v1::StoreAddRequest& request) {
  ROLLCALL_RETURN_IF_ERROR(CheckMember(request.member(), -1));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t value, group_.StoreAdd(request.key(), request.amount()));
  AnswerStoreWaiters(turn, request.key());
  return value;
}

void JobRun::StoreGet(Turn& turn, const v1::StoreGetRequest& request, absl::Duration wait,
                      Call<v1::StoreGetResponse> call) {
  const Status member = CheckMember(request.member(), -1);
  if (!member.ok()) {
    Reply(turn, call, member);
    return;
  }
  if (const std::string* value = group_.StoreGet(request.key())) {
    v1::StoreGetResponse response;
    response.set_value(*value);
    Reply(turn, call, OkStatus(), std::move(response));
    return;
  }
  store_waiters_.push_back({request.key(), turn.now + wait, std::move(call)});
}

void JobRun::AnswerStoreWaiters(Turn& turn, const std::string& key) {
  const std::string* value = group_.StoreGet(key);
  std::erase_if(store_waiters_, [&](const StoreWaiter& waiter) {
    if (waiter.key != key) return false;
    v1::StoreGetResponse response;
    response.set_value(*value);
    Reply(turn, waiter.call, OkStatus(), std::move(response));
    return true;
  });
}

// --- policy

Status JobRun::OfferManifest(Turn& turn, const v1::WeightManifest& manifest, int64_t version) {
  if (manifest.job_id() != name() || manifest.policy_version() != version) {
    return InvalidArgument("manifest: " + name() + " version " + std::to_string(version) +
                           " is expected, got " + manifest.job_id() + " version " +
                           std::to_string(manifest.policy_version()));
  }
  if (manifest.hash().size() != 16 || manifest.sources().empty()) {
    return InvalidArgument("manifest: a hash of 16 bytes and at least one source are needed");
  }
  policy_.Offer(std::make_shared<const v1::WeightManifest>(manifest));
  if (!stages_.publish.active()) stages_.publish.Begin(turn.now);
  AnswerManifestWaiters(turn);
  return OkStatus();
}

void JobRun::GetManifest(Turn& turn, const v1::GetManifestRequest& request, absl::Duration wait,
                         Call<v1::GetManifestResponse> call) {
  if (ended()) {
    Reply(turn, call, FailedPrecondition(name() + " ended: " + reason_));
    return;
  }
  if (request.policy_version() < 0 || request.policy_version() > total_steps()) {
    Reply(turn, call,
          InvalidArgument("policy_version: 0 to " + std::to_string(total_steps()) + " exist, got " +
                          std::to_string(request.policy_version())));
    return;
  }
  manifest_waiters_.push_back(
      {request.policy_version(), request.exact_version(), turn.now + wait, std::move(call)});
  AnswerManifestWaiters(turn);
}

void JobRun::AnswerManifestWaiters(Turn& turn) {
  std::erase_if(manifest_waiters_, [&](const ManifestWaiter& waiter) {
    const auto manifest = policy_.Find(waiter.version, waiter.exact);
    if (manifest == nullptr) return false;
    turn.after.push_back([reply = waiter.call.reply, manifest] {
      v1::GetManifestResponse response;
      *response.mutable_manifest() = *manifest;
      reply(OkStatus(), std::move(response));
    });
    return true;
  });
}

Status JobRun::SubmitReceipt(Turn& turn, const std::string& worker_name,
                             const v1::WeightReceipt& receipt) {
  if (ended()) return FailedPrecondition(name() + " ended: " + reason_);
  const int64_t version = receipt.policy_version();
  if (version < 0 || version > std::max(policy_.newest_known(), committed_)) {
    return FailedPrecondition("policy version " + std::to_string(version) + " of " + name() +
                              " was never offered");
  }
  const auto manifest = policy_.Find(version, /*exact=*/true);
  if (manifest != nullptr && manifest->hash() != receipt.hash()) {
    return FailedPrecondition("policy version " + std::to_string(version) + " of " + name() +
                              " has other weights than those of the receipt: fetch it again");
  }
  policy_.RecordReceipt(worker_name, version);
  turn.records.push_back(ReceiptRecord{record_.job, worker_name, version, receipt.hash()});
  if (version >= policy_.newest() && stages_.publish.active()) {
    trace_.Add({"publish", "learners", stages_.publish.since(), turn.now - stages_.publish.since(),
                version});
    stages_.publish.Stop(turn.now);
  }
  return OkStatus();
}

void JobRun::DropWaiters() {
  batch_waiters_.clear();
  store_waiters_.clear();
  manifest_waiters_.clear();
  watchers_.clear();
}

// --- time

void JobRun::Advance(Turn& turn) {
  if (ended()) return;
  FinishEvaluation(turn);
  if (!ended()) FormBatches(turn);
  if (ended()) return;
  OpenEvaluation(turn);
  OpenBoards();
  AnswerBatchWaiters(turn);
}

void JobRun::Tick(Turn& turn) {
  TakeOverdue(batch_waiters_, turn.now,
              [&](const BatchWaiter& waiter) { Reply(turn, waiter.call, OkStatus()); });
  TakeOverdue(store_waiters_, turn.now,
              [&](const StoreWaiter& waiter) { Reply(turn, waiter.call, OkStatus()); });
  TakeOverdue(manifest_waiters_, turn.now,
              [&](const ManifestWaiter& waiter) { Reply(turn, waiter.call, OkStatus()); });
  if (ended()) return;
  while (!delayed_.empty() && delayed_.begin()->due <= turn.now) {
    const Delayed delayed = *delayed_.begin();
    delayed_.erase(delayed_.begin());
    SampleBoard* board = BoardOf(delayed.id);
    if (board == nullptr) continue;
    if (delayed.kind == Kind::kPrompt) {
      board->Undelay(delayed.id);
    } else if (board->Find(delayed.id)->state == v1::SAMPLE_STATE_GENERATED) {
      QueueScore(delayed.id);
    }
  }
  if (started_at_ != absl::Time() && turn.now - trace_written_ >= kTraceInterval) {
    trace_written_ = turn.now;
    WriteTrace();
  }
  if (!watchers_.empty() && turn.now - status_sent_ >= kStatusInterval) {
    status_sent_ = turn.now;
    v1::JobEvent event;
    *event.mutable_status() = Snapshot(turn.now);
    Emit(turn, std::move(event));
  }
}

}  // namespace rollcall::coordinator
