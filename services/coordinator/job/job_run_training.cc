// The part of a job that forms batches and commits steps.
#include <algorithm>
#include <utility>

#include "services/coordinator/experience/staleness.h"
#include "services/coordinator/job/job_run.h"
#include "services/coordinator/job/sample_view.h"

namespace rollcall::coordinator {
namespace {

// Room for the rest of the message below the limit of the transport (64 MiB).
constexpr uint64_t kMaxPartBytes = 60 << 20;
// Committed batches that stay in memory for a group that resumes; older ones come from the journal.
constexpr uint64_t kMaxReplayBytes = 64 << 20;
constexpr size_t kMaxMetrics = 512;
constexpr size_t kCommitTimesKept = 21;

}  // namespace

bool JobRun::ExpireStale(Turn& turn, SampleBoard& board) {
  bool expired = false;
  for (const PromptSlot& slot : board.prompts()) {
    for (size_t i = 0; i < slot.samples.size(); ++i) {
      const Sample& sample = slot.samples[i];
      if (sample.state != v1::SAMPLE_STATE_SCORED ||
          Staleness(*sample.trajectory) <= max_staleness()) {
        continue;
      }
      const SampleId id{record_.job, board.purpose(), board.iteration(), slot.prompt_id,
                        static_cast<int32_t>(i)};
      board.Reset(id);
      turn.records.push_back(ExpireRecord{id});
      counts_.set_expired(counts_.expired() + 1);
      environment_.metrics.SampleEntered(v1::SAMPLE_STATE_EXPIRED);
      expired = true;
    }
  }
  return expired;
}

void JobRun::FormBatches(Turn& turn) {
  while (true) {
    const auto found = boards_.find(formed_);
    if (found == boards_.end() || !found->second.complete()) return;
    SampleBoard& board = found->second;
    if (ExpireStale(turn, board)) return;
    if (TooManyFailures(turn, board)) return;
    stages_.build.Begin(turn.now);
    FormedBatch batch = FormBatch(board);
    turn.dropped.push_back(std::make_shared<const SampleBoard>(std::move(board)));
    boards_.erase(found);
    AddBatch(turn, std::move(batch));
    if (ended()) return;
  }
}

void JobRun::AddBatch(Turn& turn, FormedBatch batch) {
  const int64_t step = batch.step;
  const uint64_t largest = LargestPartBytes(batch, ranks_wanted());
  if (largest > kMaxPartBytes) {
    Fail(turn, "the batch of step " + std::to_string(step) + " has " + std::to_string(largest) +
                   " bytes for one rank, at most " + std::to_string(kMaxPartBytes) +
                   " can travel: lower train.prompts_per_step or rollout.samples_per_prompt, or "
                   "use more learner ranks");
    return;
  }
  formed_ = step;
  batch_samples_[step] = batch.num_samples;
  environment_.metrics.BatchFormed(static_cast<double>(batch.max_staleness));
  environment_.metrics.SampleEntered(v1::SAMPLE_STATE_BATCHED,
                                     static_cast<double>(batch.num_samples));
  turn.records.push_back(BatchRecord{record_.job, step, batch.num_samples, turn.now});
  batches_[step] = std::make_shared<const FormedBatch>(std::move(batch));
}

FormedBatch JobRun::DatasetBatch(Turn& turn, int64_t step) {
  DatasetRecord record{record_.job, step - 1, {}};
  const bool pairs = spec().data().kind() == v1::DataSpec::PAIRS;
  for (const int64_t row_id : source_->Rows(step - 1)) {
    const PreparedRow& row = prepared_->data.rows[static_cast<size_t>(row_id)];
    auto group = std::make_shared<v1::PromptGroup>();
    group->set_iteration(step - 1);
    group->set_prompt_id(row_id);
    for (size_t i = 0; i < row.completions.size(); ++i) {
      v1::Experience& experience = *group->add_experiences();
      experience.set_preference_rank(pairs ? static_cast<int32_t>(i) : -1);
      v1::Trajectory& trajectory = *experience.mutable_trajectory();
      *trajectory.mutable_key() =
          ToKey({record_.job, v1::SAMPLE_PURPOSE_TRAIN, step - 1, row_id, static_cast<int32_t>(i)});
      trajectory.mutable_prompt_token_ids()->Add(row.prompt.begin(), row.prompt.end());
      trajectory.set_finish_reason(v1::FINISH_REASON_DATASET);
      for (const TokenRun& run : row.completions[i]) {
        v1::Segment& segment = *trajectory.add_segments();
        segment.set_kind(run.trains ? v1::SEGMENT_KIND_DATASET : v1::SEGMENT_KIND_OBSERVATION);
        segment.mutable_token_ids()->Add(run.tokens.begin(), run.tokens.end());
      }
    }
    record.groups.push_back(std::move(group));
  }
  FormedBatch batch = FormBatch(step, record.groups);
  turn.records.push_back(std::move(record));
  return batch;
}

void JobRun::DropOldBatches(Turn& turn) {
  uint64_t bytes = 0;
  for (auto batch = batches_.rbegin(); batch != batches_.rend(); ++batch) {
    if (batch->first <= committed_) bytes += batch->second->size_bytes;
  }
  while (!batches_.empty()) {
    const auto oldest = batches_.begin();
    if (oldest->first > committed_) return;
    if (oldest->first > checkpoint_.step && bytes <= kMaxReplayBytes) return;
    // The batch that a resumed group is about to ask for was just read from the journal.
    if (group_.active() && oldest->first == group_.last_step() + 1) return;
    bytes -= oldest->second->size_bytes;
    turn.dropped.push_back(std::move(oldest->second));
    batches_.erase(oldest);
  }
}

void JobRun::AcquireBatch(Turn& turn, const v1::AcquireBatchRequest& request, absl::Duration wait,
                          Call<v1::AcquireBatchResponse> call) {
  const Status member = CheckMember(request.member(), -1);
  if (!member.ok()) {
    Reply(turn, call, member);
    return;
  }
  const int64_t step = request.step();
  // A rank may ask for the next batch before rank 0's commit of this one arrived.
  const int64_t last = std::min(total_steps() + 1, committed_ + 2);
  if (step <= group_.resume_step() || step > last) {
    Reply(turn, call,
          FailedPrecondition("step: " + std::to_string(group_.resume_step() + 1) + " to " +
                             std::to_string(last) + " can be asked for now, got " +
                             std::to_string(step)));
    return;
  }
  batch_waiters_.push_back(
      {step, request.member().rank(), turn.now, turn.now + wait, std::move(call)});
  if (ended()) AnswerBatchWaiters(turn);
}

void JobRun::AnswerBatchWaiters(Turn& turn) {
  // Answering may fail the job, which answers and drops all waiters.
  std::vector<BatchWaiter> waiters = std::exchange(batch_waiters_, {});
  for (BatchWaiter& waiter : waiters) {
    if (!group_.active()) {
      Reply(turn, waiter.call, Aborted("fenced: the job ended: " + reason_));
    } else if (!AnswerBatch(turn, waiter)) {
      batch_waiters_.push_back(std::move(waiter));
    }
  }
}

bool JobRun::AnswerBatch(Turn& turn, const BatchWaiter& waiter) {
  const auto answer = [&](std::shared_ptr<const FormedBatch> batch) {
    environment_.metrics.BatchWaited(absl::ToDoubleSeconds(turn.now - waiter.since));
    // Copying a batch takes time: not under the core's lock.
    turn.after.push_back([reply = waiter.call.reply, batch = std::move(batch), rank = waiter.rank,
                          world_size = static_cast<int32_t>(group_.ranks().size())] {
      v1::AcquireBatchResponse response;
      *response.mutable_batch() = BatchOfRank(*batch, rank, world_size);
      reply(OkStatus(), std::move(response));
    });
    return true;
  };
  if (waiter.call.gone()) return false;
  const int64_t step = waiter.step;
  if (step == total_steps() + 1) {
    if (committed_ < total_steps() || !AllEvaluated(total_steps())) return false;
    auto end = std::make_shared<FormedBatch>();
    end->step = step;
    return answer(std::move(end));
  }
  if (!running() || step > committed_ + 1) return false;
  if (step == committed_ + 1) {
    if (!AllEvaluated(committed_)) return false;
    if (formed_ < step) {
      if (!prepared_->from_dataset()) return false;
      stages_.build.Begin(turn.now);
      AddBatch(turn, DatasetBatch(turn, step));
      if (ended()) {
        Reply(turn, waiter.call, Aborted("fenced: the job ended: " + reason_));
        return true;
      }
    }
  }
  const auto found = batches_.find(step);
  if (found == batches_.end()) {
    if (!running_reads_.contains(step)) wanted_reads_.insert(step);
    return false;
  }
  if (stages_.build.active() && step == committed_ + 1) {
    trace_.Add({"build", "coordinator", stages_.build.since(), turn.now - stages_.build.since(),
                step - 1});
    stages_.build.Stop(turn.now);
  }
  if (!stages_.update.active()) stages_.update.Begin(turn.now);
  return answer(found->second);
}

std::vector<int64_t> JobRun::TakeWantedReads() {
  std::vector<int64_t> steps(wanted_reads_.begin(), wanted_reads_.end());
  running_reads_.insert(steps.begin(), steps.end());
  wanted_reads_.clear();
  return steps;
}

void JobRun::BatchRead(Turn& turn, int64_t step, StatusOr<std::vector<StoredSample>> samples) {
  running_reads_.erase(step);
  if (ended()) return;
  if (!samples.ok()) {
    Fail(turn, "the batch of step " + std::to_string(step) +
                   " cannot be read from the journal: " + Message(samples.status()));
    return;
  }
  FormedBatch batch = RebuildBatch(step, *samples, source_->Rows(step - 1));
  if (batch.num_samples == 0) {
    Fail(turn, "the journal has no sample of step " + std::to_string(step));
    return;
  }
  batches_[step] = std::make_shared<const FormedBatch>(std::move(batch));
}

Status JobRun::OfferPolicy(Turn& turn, const v1::OfferPolicyRequest& request) {
  ROLLCALL_RETURN_IF_ERROR(CheckMember(request.member(), 0));
  return OfferManifest(turn, request.manifest(), group_.last_step());
}

Status JobRun::CommitStep(Turn& turn, const v1::CommitStepRequest& request) {
  ROLLCALL_RETURN_IF_ERROR(CheckMember(request.member(), 0));
  const int64_t step = request.step();
  if (step >= 1 && step <= group_.last_step()) return OkStatus();  // a repeated call
  if (step != group_.last_step() + 1) {
    return FailedPrecondition("step: " + std::to_string(group_.last_step() + 1) +
                              " is next in epoch " + std::to_string(group_.epoch()) + ", got " +
                              std::to_string(step));
  }
  if (step > committed_ && !batch_samples_.contains(step)) {
    return FailedPrecondition("step " + std::to_string(step) + " has no batch yet");
  }
  if (request.metrics_size() > static_cast<int>(kMaxMetrics)) {
    return InvalidArgument("metrics: at most 512, got " + std::to_string(request.metrics_size()));
  }
  ROLLCALL_RETURN_IF_ERROR(OfferManifest(turn, request.manifest(), step));
  trace_.Add(
      {"update", "learners", stages_.update.since(), turn.now - stages_.update.since(), step - 1});
  stages_.update.Stop(turn.now);
  group_.SetLastStep(step);
  if (step <= committed_) {
    environment_.metrics.StepReplayed();
    turn.records.push_back(ReplayRecord{record_.job, step, group_.epoch(), turn.now});
  } else {
    CommitNew(turn, request);
  }
  DropOldBatches(turn);
  return OkStatus();
}

void JobRun::CommitNew(Turn& turn, const v1::CommitStepRequest& request) {
  const int64_t step = request.step();
  committed_ = step;
  reforms_without_commit_ = 0;
  StepRecord record;
  record.job = record_.job;
  record.step = step;
  record.epoch = group_.epoch();
  record.num_samples = batch_samples_[step];
  record.optimizer_updates = request.optimizer_updates();
  record.time = turn.now;
  // A batch that came back from the journal has its metrics again.
  if (const auto batch = batches_.find(step); batch != batches_.end()) {
    record.metrics = batch->second->metrics;
    EmitSample(turn, *batch->second);
  }
  record.metrics.insert(request.metrics().begin(), request.metrics().end());
  batch_samples_.erase(step);
  counts_.set_consumed(counts_.consumed() + record.num_samples);
  optimizer_updates_ += request.optimizer_updates();
  last_metrics_ = record.metrics;
  commit_times_.push_back(turn.now);
  while (commit_times_.size() > kCommitTimesKept) commit_times_.pop_front();
  environment_.metrics.StepCommitted();
  environment_.metrics.SampleEntered(v1::SAMPLE_STATE_CONSUMED,
                                     static_cast<double>(record.num_samples));
  turn.on_durable.push_back([files = &environment_.files, job = record_.job, path = metrics_path(),
                             line = MetricsLine(record)] { files->AppendLine(job, path, line); });
  v1::JobEvent event;
  event.mutable_step()->set_step(step);
  *event.mutable_step()->mutable_time() = ToProto(turn.now);
  event.mutable_step()->mutable_metrics()->insert(record.metrics.begin(), record.metrics.end());
  Emit(turn, std::move(event));
  turn.records.push_back(std::move(record));
  RecordStatus(turn);
}

void JobRun::EmitSample(Turn& turn, const FormedBatch& batch) {
  if (watchers_.empty() || batch.groups.empty()) return;
  const v1::Experience& experience = batch.groups.front()->experiences(0);
  v1::JobEvent event;
  v1::SampleView& view = *event.mutable_sample();
  *view.mutable_trajectory() = experience.trajectory();
  view.set_state(v1::SAMPLE_STATE_CONSUMED);
  view.set_step(batch.step);
  if (experience.has_reward()) view.set_reward(experience.reward());
  FillTexts(prepared_->tokenizer.get(), &view);
  Emit(turn, std::move(event));
}

Status JobRun::ReportCheckpoint(Turn& turn, const v1::ReportCheckpointRequest& request) {
  ROLLCALL_RETURN_IF_ERROR(CheckMember(request.member(), 0));
  if (request.step() < 1 || request.step() > group_.last_step()) {
    return FailedPrecondition("step: a checkpoint is of a committed step, 1 to " +
                              std::to_string(group_.last_step()) + ", got " +
                              std::to_string(request.step()));
  }
  const std::string& directory = request.directory();
  if (directory.size() > 4096 || !directory.starts_with(record_.run_dir + "/") ||
      directory.find("/../") != std::string::npos) {
    return InvalidArgument("directory: '" + directory + "' is not inside " + record_.run_dir);
  }
  turn.records.push_back(CheckpointRecord{record_.job, request.step(), directory});
  if (request.step() >= checkpoint_.step) checkpoint_ = {request.step(), directory};
  DropOldBatches(turn);
  return OkStatus();
}

Status JobRun::FinishAssignment(Turn& turn, const v1::FinishAssignmentRequest& request) {
  ROLLCALL_RETURN_IF_ERROR(CheckMember(request.member(), -1));
  if (ended()) return OkStatus();  // another rank of a job that succeeded
  const int32_t rank = request.member().rank();
  const std::string who = "rank " + std::to_string(rank) + " (" + group_.rank(rank).name + ")";
  if (request.has_failure()) {
    const v1::Failure& failure = request.failure();
    const std::string what = who + ": " + failure.reason() +
                             (failure.message().empty() ? std::string() : ": " + failure.message());
    if (failure.kind() == v1::Failure::KIND_DATA) {
      Fail(turn, what);
    } else {
      LoseGroup(turn, what);
    }
    return OkStatus();
  }
  if (rank != 0) {
    group_.rank(rank).finished = true;
    return OkStatus();
  }
  if (committed_ < total_steps() || group_.last_step() < total_steps()) {
    return FailedPrecondition("step " + std::to_string(group_.last_step()) + " of " +
                              std::to_string(total_steps()) + " is the last that is committed");
  }
  if (!AllEvaluated(total_steps())) {
    return FailedPrecondition("the final evaluation is not complete: acquire batch " +
                              std::to_string(total_steps() + 1) + " first");
  }
  if (checkpoint_.step < total_steps()) {
    return FailedPrecondition("the checkpoint of step " + std::to_string(total_steps()) +
                              " was not reported");
  }
  End(turn, v1::JOB_STATE_SUCCEEDED, "");
  AnswerBatchWaiters(turn);
  return OkStatus();
}

}  // namespace rollcall::coordinator
