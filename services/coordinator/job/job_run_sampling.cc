// The part of a job that makes and scores samples.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "services/common/sampling/sampling_codec.h"
#include "services/coordinator/experience/staleness.h"
#include "services/coordinator/experience/trajectory_check.h"
#include "services/coordinator/job/job_run.h"

namespace rollcall::coordinator {
namespace {

constexpr absl::Duration kFirstBackOff = absl::Milliseconds(100);
constexpr absl::Duration kMaxBackOff = absl::Seconds(5);
constexpr size_t kMaxCompletionTextBytes = 4096;
constexpr int kMaxComponents = 256;

absl::Duration BackOffOf(int32_t failures) {
  return std::min(kMaxBackOff, kFirstBackOff * (1 << std::min(failures - 1, 10)));
}

v1::SubmitResult Result(const SampleId& id, v1::SubmitOutcome outcome,
                        const std::string& message = {}) {
  v1::SubmitResult result;
  *result.mutable_key() = ToKey(id);
  result.set_outcome(outcome);
  result.set_message(message);
  return result;
}

v1::Failure MakeFailure(v1::Failure::Kind kind, const std::string& reason,
                        const std::string& message) {
  v1::Failure failure;
  failure.set_kind(kind);
  failure.set_reason(reason);
  failure.set_message(message);
  return failure;
}

std::string Describe(const SampleId& id) {
  return "sample (iteration " + std::to_string(id.iteration) + ", prompt " +
         std::to_string(id.prompt_id) + ", index " + std::to_string(id.sample_index) + ")";
}

std::string Describe(const v1::Failure& failure) {
  return failure.message().empty() ? failure.reason() : failure.reason() + ": " + failure.message();
}

// Most frequent reason among the failed samples of a board.
std::string TopReason(const SampleBoard& board) {
  std::map<std::string, int64_t> counts;
  for (const PromptSlot& slot : board.prompts()) {
    for (const Sample& sample : slot.samples) {
      if (sample.state == v1::SAMPLE_STATE_FAILED) ++counts[Describe(sample.score->failure())];
    }
  }
  std::string top;
  int64_t most = 0;
  for (const auto& [reason, count] : counts) {
    if (count > most) {
      top = reason;
      most = count;
    }
  }
  return top;
}

void ClipText(std::string& text) {
  if (text.size() <= kMaxCompletionTextBytes) return;
  size_t end = kMaxCompletionTextBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  text.resize(end);
}

}  // namespace

SampleBoard* JobRun::BoardOf(const SampleId& id) {
  if (id.purpose == v1::SAMPLE_PURPOSE_EVALUATE) {
    return evaluation_ && evaluation_->iteration() == id.iteration ? &*evaluation_ : nullptr;
  }
  const auto found = boards_.find(id.iteration);
  return found == boards_.end() ? nullptr : &found->second;
}

const PreparedRows& JobRun::RowsOf(v1::SamplePurpose purpose) const {
  return purpose == v1::SAMPLE_PURPOSE_EVALUATE ? prepared_->evaluation : prepared_->data;
}

bool JobRun::EvaluationWanted(int64_t version) const {
  if (spec().evaluate().path().empty()) return false;
  const int64_t interval = spec().evaluate().interval_steps();
  return version == 0 || version == total_steps() || (interval > 0 && version % interval == 0);
}

bool JobRun::AllEvaluated(int64_t version) const {
  return !EvaluationWanted(version) || evaluations_.contains(version);
}

void JobRun::OpenEvaluation(Turn& turn) {
  if (!running() || evaluation_ || AllEvaluated(committed_)) return;
  if (!policy_.available(committed_)) return;
  evaluation_.emplace(record_.job, v1::SAMPLE_PURPOSE_EVALUATE, committed_,
                      prepared_->evaluation.usable, spec().evaluate().samples_per_prompt());
  stages_.evaluate.Begin(turn.now);
}

bool JobRun::Dispatchable(const SampleBoard& board) const {
  if (!running()) return false;
  if (board.purpose() == v1::SAMPLE_PURPOSE_EVALUATE || exact_versions()) {
    return policy_.available(board.iteration());
  }
  return policy_.newest() >= OldestAllowedVersion(board.iteration(), max_staleness());
}

void JobRun::OpenBoards() {
  if (!running() || prepared_->from_dataset()) return;
  while (next_board_ < total_steps() && next_board_ <= committed_ + max_staleness()) {
    if (policy_.newest() < OldestAllowedVersion(next_board_, max_staleness())) return;
    // One iteration with work at a time: the next opens when workers took all of this one.
    for (const auto& [iteration, board] : boards_) {
      if (board.num_pending() > 0) return;
    }
    boards_.try_emplace(next_board_, record_.job, v1::SAMPLE_PURPOSE_TRAIN, next_board_,
                        source_->Rows(next_board_), spec().rollout().samples_per_prompt());
    ++next_board_;
  }
}

bool JobRun::has_pending_evaluation() const {
  return evaluation_ && evaluation_->num_pending() > 0 && Dispatchable(*evaluation_);
}

JobRun::Pending JobRun::PendingPrompts() const {
  Pending pending;
  const auto add = [&](const SampleBoard& board) {
    if (board.num_pending() == 0 || !Dispatchable(board)) return;
    pending.prompts += board.num_pending_prompts();
    pending.samples += board.num_pending();
  };
  if (evaluation_) add(*evaluation_);
  for (const auto& [iteration, board] : boards_) add(board);
  return pending;
}

std::optional<PromptWork> JobRun::PeekPrompt(int64_t max_samples) const {
  const SampleBoard* board = nullptr;
  if (has_pending_evaluation()) {
    board = &*evaluation_;
  } else {
    for (const auto& [iteration, candidate] : boards_) {
      if (candidate.num_pending() == 0 || !Dispatchable(candidate)) continue;
      board = &candidate;
      break;
    }
  }
  if (board == nullptr) return std::nullopt;
  const auto pick = board->PeekPending(max_samples);
  if (!pick) return std::nullopt;

  const bool evaluates = board->purpose() == v1::SAMPLE_PURPOSE_EVALUATE;
  PromptWork work;
  v1::PromptLease& lease = work.lease;
  lease.set_job_id(name());
  lease.set_iteration(board->iteration());
  lease.set_prompt_id(pick->prompt_id);
  lease.set_purpose(board->purpose());
  lease.mutable_sample_indices()->Add(pick->sample_indices.begin(), pick->sample_indices.end());
  const PreparedRow& row = RowsOf(board->purpose()).rows[static_cast<size_t>(pick->prompt_id)];
  lease.mutable_prompt_token_ids()->Add(row.prompt.begin(), row.prompt.end());
  v1::SamplingParams& sampling = *lease.mutable_sampling();
  if (evaluates) {
    sampling.set_temperature(spec().evaluate().temperature());
    sampling.set_top_p(1.0);
    sampling.set_max_new_tokens(spec().rollout().max_new_tokens());
  } else {
    sampling = sampling_;
  }
  sampling.mutable_stop_token_ids()->Add(prepared_->stop_token_ids.begin(),
                                         prepared_->stop_token_ids.end());
  lease.set_exact_version(evaluates || exact_versions());
  lease.set_policy_version(lease.exact_version() ? board->iteration() : policy_.newest());
  lease.set_seed(spec().run().seed());
  work.timeout = FromProto(spec().rollout().lease_timeout());
  *lease.mutable_deadline() = ToProto(work.timeout);
  for (const int32_t index : pick->sample_indices) {
    work.samples.push_back(
        {record_.job, board->purpose(), board->iteration(), pick->prompt_id, index});
  }
  return work;
}

void JobRun::PromptLeased(Turn& turn, const PromptWork& work, uint64_t lease) {
  for (const SampleId& id : work.samples) BoardOf(id)->MarkLeased(id, lease);
  counts_.set_leases(counts_.leases() + 1);
  environment_.metrics.PromptLeaseIssued();
  if (work.lease.purpose() == v1::SAMPLE_PURPOSE_TRAIN) stages_.sample.Begin(turn.now);
}

void JobRun::PromptLeaseEnded(Turn& turn, absl::Time issued, const std::string& worker_name,
                              v1::SamplePurpose purpose, int64_t iteration) {
  if (ended()) return;
  if (purpose == v1::SAMPLE_PURPOSE_TRAIN) stages_.sample.End(turn.now);
  trace_.Add({"sample", worker_name, issued, turn.now - issued, iteration});
}

Status JobRun::CheckDoor(const std::string& worker_name, const v1::Trajectory& trajectory,
                         const SampleId& id) {
  const bool exact = id.purpose == v1::SAMPLE_PURPOSE_EVALUATE || exact_versions();
  TrajectoryLimits limits;
  limits.prompt_token_ids = RowsOf(id.purpose).rows[static_cast<size_t>(id.prompt_id)].prompt;
  limits.max_new_tokens = spec().rollout().max_new_tokens();
  limits.vocab_size = prepared_->vocab_size;
  limits.needs_kept_sets = id.purpose == v1::SAMPLE_PURPOSE_TRAIN && RestrictsTokens(sampling_);
  limits.min_version = exact ? id.iteration : 0;
  limits.max_version = exact ? id.iteration : policy_.newest_known();
  ROLLCALL_RETURN_IF_ERROR(CheckTrajectory(trajectory, limits));
  for (const v1::Segment& segment : trajectory.segments()) {
    if (segment.kind() != v1::SEGMENT_KIND_POLICY) continue;
    if (!policy_.HasReceipt(worker_name, segment.policy_version())) {
      return InvalidArgument(worker_name + " sampled with policy version " +
                             std::to_string(segment.policy_version()) +
                             " without a receipt for it");
    }
  }
  return OkStatus();
}

v1::SubmitResult JobRun::Reject(Turn& turn, const SampleId& id, uint64_t lease,
                                const std::string& message) {
  environment_.metrics.SampleRejected();
  environment_.logger.Warning("trajectory rejected job=" + name() + " " + Describe(id) +
                              " reason=" + message);
  PromptLost(turn, {.id = id,
                    .lease = lease,
                    .failure = MakeFailure(v1::Failure::KIND_INFRASTRUCTURE, "rejected", message),
                    .retry = LostSample::Retry::kBackOff});
  return Result(id, v1::SUBMIT_OUTCOME_REJECTED, message);
}

v1::SubmitResult JobRun::SubmitTrajectory(Turn& turn, const std::string& worker_name,
                                          v1::Trajectory trajectory, uint64_t lease) {
  const SampleId id = FromKey(trajectory.key());
  if (ended()) return Result(id, v1::SUBMIT_OUTCOME_UNWANTED, name() + " ended: " + reason_);
  SampleBoard* board = BoardOf(id);
  if (board == nullptr) {
    const bool over = id.purpose == v1::SAMPLE_PURPOSE_EVALUATE
                          ? evaluations_.contains(id.iteration)
                          : id.iteration >= 0 && id.iteration < formed_;
    if (over) {
      counts_.set_duplicates(counts_.duplicates() + 1);
      environment_.metrics.SampleDuplicate();
      return Result(id, v1::SUBMIT_OUTCOME_DUPLICATE);
    }
    return Result(id, v1::SUBMIT_OUTCOME_UNWANTED, "the iteration is not open");
  }
  Sample* sample = board->Find(id);
  if (sample == nullptr) {
    environment_.metrics.SampleRejected();
    return Result(id, v1::SUBMIT_OUTCOME_REJECTED, Describe(id) + " does not exist");
  }
  if (sample->state != v1::SAMPLE_STATE_PENDING && sample->state != v1::SAMPLE_STATE_LEASED) {
    counts_.set_duplicates(counts_.duplicates() + 1);
    environment_.metrics.SampleDuplicate();
    return Result(id, v1::SUBMIT_OUTCOME_DUPLICATE);
  }
  const Status door = CheckDoor(worker_name, trajectory, id);
  if (!door.ok()) return Reject(turn, id, lease, Message(door));
  if (id.purpose == v1::SAMPLE_PURPOSE_TRAIN && Staleness(trajectory) > max_staleness()) {
    counts_.set_expired(counts_.expired() + 1);
    environment_.metrics.SampleEntered(v1::SAMPLE_STATE_EXPIRED);
    return Reject(turn, id, lease,
                  "the oldest token is of version " + std::to_string(OldestVersion(trajectory)) +
                      ", iteration " + std::to_string(id.iteration) + " takes version " +
                      std::to_string(OldestAllowedVersion(id.iteration, max_staleness())) +
                      " and newer");
  }
  *trajectory.mutable_key() = ToKey(id);
  trajectory.set_worker_id(worker_name);
  auto stored = std::make_shared<const v1::Trajectory>(std::move(trajectory));
  board->MarkGenerated(id, stored);
  turn.records.push_back(TrajectoryRecord{id, std::move(stored)});
  QueueScore(id);
  if (id.purpose == v1::SAMPLE_PURPOSE_TRAIN) counts_.set_generated(counts_.generated() + 1);
  environment_.metrics.SampleEntered(v1::SAMPLE_STATE_GENERATED);
  return Result(id, v1::SUBMIT_OUTCOME_ACCEPTED);
}

void JobRun::PromptLost(Turn& turn, const LostSample& lost) {
  if (ended()) return;
  SampleBoard* board = BoardOf(lost.id);
  Sample* sample = board == nullptr ? nullptr : board->Find(lost.id);
  // Somebody else has it, or it is there already.
  if (sample == nullptr || sample->state != v1::SAMPLE_STATE_LEASED ||
      sample->lease != lost.lease) {
    return;
  }
  if (lost.failure.kind() == v1::Failure::KIND_DATA) {
    SettleFailed(turn, *board, lost.id, lost.failure);
    return;
  }
  if (lost.budget == LostSample::Budget::kCounts) {
    const int32_t max_attempts = spec().rollout().max_attempts();
    if (++sample->failures >= max_attempts) {
      Fail(turn, Describe(lost.id) + " could not be generated in " + std::to_string(max_attempts) +
                     " attempts; the last: " + Describe(lost.failure));
      return;
    }
  }
  const bool delay = lost.retry == LostSample::Retry::kBackOff;
  board->GiveBack(lost.id, delay);
  if (delay) {
    delayed_.insert({turn.now + BackOffOf(sample->failures), lost.id, Kind::kPrompt});
  }
}

void JobRun::SettleFailed(Turn& turn, SampleBoard& board, const SampleId& id,
                          const v1::Failure& failure) {
  auto score = std::make_shared<v1::Score>();
  *score->mutable_key() = ToKey(id);
  *score->mutable_failure() = failure;
  board.Settle(id, score);
  turn.records.push_back(ScoreRecord{id, std::move(score)});
  if (id.purpose == v1::SAMPLE_PURPOSE_TRAIN) counts_.set_failed(counts_.failed() + 1);
  environment_.metrics.SampleEntered(v1::SAMPLE_STATE_FAILED);
}

// --- scoring

void JobRun::QueueScore(const SampleId& id) {
  (id.purpose == v1::SAMPLE_PURPOSE_EVALUATE ? evaluation_scores_ : train_scores_).push_back(id);
}

std::optional<ScoreWork> JobRun::TakeScore(Turn& turn, uint64_t lease) {
  if (ended()) return std::nullopt;
  for (std::deque<SampleId>* queue : {&evaluation_scores_, &train_scores_}) {
    while (!queue->empty()) {
      const SampleId id = queue->front();
      queue->pop_front();
      SampleBoard* board = BoardOf(id);
      Sample* sample = board == nullptr ? nullptr : board->Find(id);
      if (sample == nullptr || sample->state != v1::SAMPLE_STATE_GENERATED) continue;
      sample->state = v1::SAMPLE_STATE_SCORING;
      sample->lease = lease;
      ScoreWork work;
      work.sample = id;
      work.trajectory = sample->trajectory;
      work.job = prepared_;
      work.timeout = FromProto(spec().reward().lease_timeout());
      environment_.metrics.ScoreLeaseIssued();
      stages_.score.Begin(turn.now);
      return work;
    }
  }
  return std::nullopt;
}

void JobRun::ScoreLeaseEnded(Turn& turn, absl::Time issued, const std::string& worker_name,
                             int64_t iteration) {
  if (ended()) return;
  stages_.score.End(turn.now);
  trace_.Add({"score", worker_name, issued, turn.now - issued, iteration});
}

v1::SubmitResult JobRun::SubmitScore(Turn& turn, v1::Score score, uint64_t lease) {
  const SampleId id = FromKey(score.key());
  if (ended()) return Result(id, v1::SUBMIT_OUTCOME_UNWANTED, name() + " ended: " + reason_);
  SampleBoard* board = BoardOf(id);
  Sample* sample = board == nullptr ? nullptr : board->Find(id);
  if (sample == nullptr || sample->settled()) {
    counts_.set_duplicates(counts_.duplicates() + 1);
    environment_.metrics.SampleDuplicate();
    return Result(id, v1::SUBMIT_OUTCOME_DUPLICATE);
  }
  if (sample->state != v1::SAMPLE_STATE_SCORING && sample->state != v1::SAMPLE_STATE_GENERATED) {
    return Result(id, v1::SUBMIT_OUTCOME_UNWANTED, Describe(id) + " has no trajectory yet");
  }
  const auto lost = [&](const v1::Failure& failure) {
    ScoreLost(turn,
              {.id = id, .lease = lease, .failure = failure, .retry = LostSample::Retry::kBackOff});
  };
  if (score.has_failure() && score.failure().kind() != v1::Failure::KIND_DATA) {
    lost(score.failure());
    return Result(id, v1::SUBMIT_OUTCOME_ACCEPTED);
  }
  if (!score.has_failure() && (!score.has_reward() || !std::isfinite(score.reward()))) {
    const std::string message = "a score is a finite reward or a failure";
    environment_.metrics.SampleRejected();
    lost(MakeFailure(v1::Failure::KIND_INFRASTRUCTURE, "rejected", message));
    return Result(id, v1::SUBMIT_OUTCOME_REJECTED, message);
  }
  *score.mutable_key() = ToKey(id);
  ClipText(*score.mutable_completion_text());
  while (score.components_size() > kMaxComponents) score.mutable_components()->RemoveLast();
  const bool failed = score.has_failure();
  auto stored = std::make_shared<const v1::Score>(std::move(score));
  board->Settle(id, stored);
  turn.records.push_back(ScoreRecord{id, std::move(stored)});
  if (id.purpose == v1::SAMPLE_PURPOSE_TRAIN) {
    if (failed) {
      counts_.set_failed(counts_.failed() + 1);
    } else {
      counts_.set_scored(counts_.scored() + 1);
    }
  }
  environment_.metrics.SampleEntered(failed ? v1::SAMPLE_STATE_FAILED : v1::SAMPLE_STATE_SCORED);
  return Result(id, v1::SUBMIT_OUTCOME_ACCEPTED);
}

void JobRun::ScoreLost(Turn& turn, const LostSample& lost) {
  if (ended()) return;
  SampleBoard* board = BoardOf(lost.id);
  Sample* sample = board == nullptr ? nullptr : board->Find(lost.id);
  if (sample == nullptr || sample->state != v1::SAMPLE_STATE_SCORING ||
      sample->lease != lost.lease) {
    return;
  }
  sample->state = v1::SAMPLE_STATE_GENERATED;
  sample->lease = 0;
  if (lost.budget == LostSample::Budget::kCounts) {
    int32_t max_retries = 0;
    const bool own =
        lost.id.purpose == v1::SAMPLE_PURPOSE_EVALUATE && !spec().evaluate().scorers().empty();
    for (const v1::ScorerSpec& scorer :
         own ? spec().evaluate().scorers() : spec().reward().scorers()) {
      max_retries = std::max(max_retries, scorer.max_retries());
    }
    if (++sample->score_failures > max_retries) {
      SettleFailed(turn, *board, lost.id, lost.failure);
      return;
    }
  }
  if (lost.retry == LostSample::Retry::kBackOff) {
    delayed_.insert({turn.now + BackOffOf(sample->score_failures), lost.id, Kind::kScore});
  } else {
    QueueScore(lost.id);
  }
}

// --- the end of a board

bool JobRun::TooManyFailures(Turn& turn, const SampleBoard& board) {
  const auto failed = static_cast<double>(board.num_failed());
  const auto all = static_cast<double>(board.num_samples());
  if (board.num_failed() < board.num_samples() &&
      failed <= spec().reward().max_failure_share() * all) {
    return false;
  }
  const bool evaluates = board.purpose() == v1::SAMPLE_PURPOSE_EVALUATE;
  Fail(turn, std::to_string(board.num_failed()) + " of " + std::to_string(board.num_samples()) +
                 " scores of " +
                 (evaluates ? "the evaluation of version " + std::to_string(board.iteration())
                            : "step " + std::to_string(board.iteration() + 1)) +
                 " failed: " + TopReason(board));
  return true;
}

void JobRun::FinishEvaluation(Turn& turn) {
  if (!evaluation_ || !evaluation_->complete()) return;
  if (TooManyFailures(turn, *evaluation_)) return;
  StoredEvaluation evaluation;
  evaluation.time = turn.now;
  v1::EvaluationResult& result = evaluation.result;
  result.set_policy_version(evaluation_->iteration());
  int64_t num_correct = 0;
  double reward_sum = 0;
  for (const PromptSlot& slot : evaluation_->prompts()) {
    for (const Sample& sample : slot.samples) {
      if (sample.state != v1::SAMPLE_STATE_SCORED) continue;
      result.set_num_samples(result.num_samples() + 1);
      reward_sum += sample.score->reward();
      if (sample.score->reward() >= spec().evaluate().correct_threshold()) ++num_correct;
    }
  }
  result.set_num_failed(evaluation_->num_failed());
  const auto n = static_cast<double>(result.num_samples());
  result.set_accuracy(static_cast<double>(num_correct) / n);
  result.set_mean_reward(reward_sum / n);
  trace_.Add({"evaluate", "evaluation", stages_.evaluate.since(),
              turn.now - stages_.evaluate.since(), evaluation_->iteration()});
  stages_.evaluate.Stop(turn.now);
  evaluation_.reset();
  turn.records.push_back(EvaluationRecord{record_.job, result, turn.now});
  turn.on_durable.push_back(
      [files = &environment_.files, job = record_.job, path = metrics_path(),
       line = MetricsLine(evaluation)] { files->AppendLine(job, path, line); });
  v1::JobEvent event;
  *event.mutable_evaluation() = result;
  Emit(turn, std::move(event));
  environment_.logger.Info("evaluated job=" + name() +
                           " policy_version=" + std::to_string(result.policy_version()) +
                           " accuracy=" + std::to_string(result.accuracy()));
  const int64_t version = result.policy_version();
  evaluations_[version] = std::move(evaluation);
  RecordStatus(turn);
}

}  // namespace rollcall::coordinator
