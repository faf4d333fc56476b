#include "rollout_worker/migration/migration_source.h"

#include <algorithm>
#include <tuple>

#include "rollout_worker/migration/migration_codec.h"
#include "services/common/rpc/client.h"
#include "services/common/rpc/status_conversion.h"

namespace rollcall {
namespace {

constexpr size_t kMaxBlocksBytes = 2 << 20;
constexpr absl::Duration kEngineTimeout = absl::Seconds(30);
constexpr absl::Duration kTransferTimeout = absl::Seconds(60);

// What a call on the engine's thread leaves for its caller, who may have gone.
struct EngineAnswer {
  Mutex mu;
  CondVar changed;
  bool is_done ABSL_GUARDED_BY(mu) = false;
  Status status ABSL_GUARDED_BY(mu);
};

void Answer(EngineAnswer& answer, const Status& status) {
  MutexLock lock(answer.mu);
  answer.is_done = true;
  answer.status = status;
  answer.changed.NotifyAll();
}

Status Await(EngineAnswer& answer) {
  const absl::Time until = absl::Now() + kEngineTimeout;
  MutexLock lock(answer.mu);
  while (!answer.is_done && absl::Now() < until) answer.changed.WaitFor(answer.mu, kEngineTimeout);
  return answer.is_done ? answer.status : DeadlineExceeded("the engine does not answer");
}

}  // namespace

void OrderForMigration(std::vector<MovableSequence>* movable) {
  std::sort(movable->begin(), movable->end(),
            [](const MovableSequence& a, const MovableSequence& b) {
              return std::tuple(-a.priority, a.num_blocks, a.group_id, a.index) <
                     std::tuple(-b.priority, b.num_blocks, b.group_id, b.index);
            });
}

struct MigrationSource::Move {
  std::string job_id;
  MovableSequence sequence;
  std::shared_ptr<grpc::Channel> channel;
  grpc::ClientContext context;
  int32_t num_sent = 0;  // blocks
  uint64_t epoch = 0;
  int num_stages = 0;
  bool is_detached = false;
  bool is_released = false;
  absl::Time paused;
  // Guarded by the source's mutex.
  bool is_finished = false;
  absl::Time last_heard;
  std::jthread thread;  // last
};

MigrationSource::MigrationSource(const MigrationSourceOptions& options, MigrationMetrics& metrics,
                                 Logger& logger, const Clock& clock)
    : options_(options),
      metrics_(metrics),
      logger_(logger),
      clock_(clock),
      watch_thread_([this](const std::stop_token& stop) { Watch(stop); }) {}

MigrationSource::~MigrationSource() { Stop(); }

void MigrationSource::SetLoop(EngineLoop* loop) {
  MutexLock lock(mu_);
  loop_ = loop;
}

void MigrationSource::Stop() {
  std::vector<std::unique_ptr<Move>> moves;
  {
    MutexLock lock(mu_);
    is_stopped_ = true;
    moves.swap(moves_);
    for (const auto& move : moves) move->context.TryCancel();
    changed_.NotifyAll();
  }
  moves.clear();  // joins
}

size_t MigrationSource::num_moving() const {
  MutexLock lock(mu_);
  return static_cast<size_t>(std::count_if(moves_.begin(), moves_.end(),
                                           [](const auto& move) { return !move->is_finished; }));
}

void MigrationSource::Watch(const std::stop_token& stop) {
  MutexLock lock(mu_);
  while (!stop.stop_requested() && !is_stopped_) {
    const absl::Time now = clock_.Now();
    for (const auto& move : moves_) {
      if (now - move->last_heard > options_.token_timeout) move->context.TryCancel();
    }
    changed_.WaitFor(mu_, absl::Seconds(1));
  }
}

void MigrationSource::Heard(Move* move) {
  const absl::Time now = clock_.Now();
  MutexLock lock(mu_);
  move->last_heard = now;
}

void MigrationSource::JoinFinished() {
  std::vector<std::unique_ptr<Move>> finished;
  MutexLock lock(mu_);
  for (auto& move : moves_) {
    if (move->is_finished) finished.push_back(std::move(move));
  }
  std::erase(moves_, nullptr);
  // Their threads have nothing left to do but to return.
  finished.clear();
}

StatusOr<std::shared_ptr<grpc::Channel>> MigrationSource::ChannelTo(const std::string& address) {
  {
    MutexLock lock(mu_);
    const auto it = channels_.find(address);
    if (it != channels_.end()) return it->second;
  }
  ROLLCALL_ASSIGN_OR_RETURN(auto channel, MakeChannel(address, options_.tls));
  MutexLock lock(mu_);
  constexpr size_t kMaxChannels = 256;
  if (channels_.size() >= kMaxChannels) channels_.clear();
  return channels_.emplace(address, channel).first->second;
}

Status MigrationSource::OnEngine(const std::string& job_id, std::function<Status(Engine&)> call) {
  EngineLoop* loop = nullptr;
  {
    MutexLock lock(mu_);
    loop = loop_;
  }
  if (loop == nullptr) return Unavailable("there is no engine yet");
  const auto answer = std::make_shared<EngineAnswer>();
  loop->RunOn(job_id, [answer, call = std::move(call)](Engine* engine) {
    Answer(*answer, engine == nullptr ? NotFound("the job has no engine here") : call(*engine));
  });
  return Await(*answer);
}

StatusOr<int> MigrationSource::MigrateOut(const std::string& job_id, const std::string& destination,
                                          int max_sequences) {
  JoinFinished();
  ROLLCALL_ASSIGN_OR_RETURN(const auto channel, ChannelTo(destination));
  const auto movable = std::make_shared<std::vector<MovableSequence>>();
  ROLLCALL_RETURN_IF_ERROR(OnEngine(job_id, [movable](Engine& engine) {
    *movable = engine.ListMovable();
    return OkStatus();
  }));
  OrderForMigration(movable.get());
  int num_started = 0;
  MutexLock lock(mu_);
  if (is_stopped_) return Unavailable("this worker is leaving");
  for (const MovableSequence& sequence : *movable) {
    if (num_started == max_sequences || static_cast<int>(moves_.size()) == options_.max_away) break;
    const bool is_moving = std::any_of(moves_.begin(), moves_.end(), [&](const auto& move) {
      return move->sequence.group_id == sequence.group_id && move->sequence.index == sequence.index;
    });
    if (is_moving) continue;
    auto move = std::make_unique<Move>();
    move->job_id = job_id;
    move->sequence = sequence;
    move->channel = channel;
    move->last_heard = clock_.Now();
    Move* borrowed = move.get();
    moves_.push_back(std::move(move));
    borrowed->thread = std::jthread([this, borrowed] { Run(borrowed); });
    ++num_started;
  }
  return num_started;
}

void MigrationSource::Run(Move* move) {
  const auto stub = v1::MigrationService::NewStub(move->channel);
  const auto stream = stub->Receive(&move->context);
  Status status = Transfer(move, stream.get());
  const uint64_t group_id = move->sequence.group_id;
  const int32_t index = move->sequence.index;
  if (status.ok()) status = Follow(move, stream.get());
  if (!status.ok()) {
    move->context.TryCancel();
    const Status finished = FromGrpc(stream->Finish());
    // Whatever it was, the sequence is here and goes on; NotFound: it ended meanwhile.
    const bool was_away = move->is_released;
    const bool was_detached = move->is_detached;
    if (was_away || was_detached) {
      const Status back = OnEngine(move->job_id, [=](Engine& engine) {
        return was_away ? engine.Reclaim(group_id, index) : engine.Attach(group_id, index);
      });
      if (back.ok() && was_away) {
        ++num_reclaimed_;
        metrics_.Reclaimed();
      }
    }
    if (!was_away) metrics_.Abandoned();
    logger_.Info(
        "a sequence stays job=" + move->job_id + " stage=" +
        (was_away       ? "away"
         : was_detached ? "last"
                        : "live") +
        " reason=\"" +
        Message(finished.ok() || finished.code() == StatusCode::kCancelled ? status : finished) +
        "\"");
  } else {
    stream->WritesDone();
    stream->Finish();
  }
  MutexLock lock(mu_);
  move->is_finished = true;
}

Status MigrationSource::Exchange(Move* move, Stream* stream, const v1::MigrateRequest& request,
                                 v1::MigrateResponse::StepCase expected,
                                 v1::MigrateResponse* response) {
  if (!stream->Write(request) || !stream->Read(response)) {
    return Unavailable("the destination ended the stream");
  }
  Heard(move);
  if (response->step_case() != expected) {
    return Internal("the destination answered out of turn");
  }
  return OkStatus();
}

Status MigrationSource::SendBlocks(Move* move, Stream* stream, int32_t end, int32_t num_tokens) {
  const uint64_t group_id = move->sequence.group_id;
  const int32_t index = move->sequence.index;
  while (move->num_sent < end) {
    const auto bytes = std::make_shared<std::vector<std::byte>>();
    const int32_t first = move->num_sent;
    const auto count = std::make_shared<int32_t>(0);
    ROLLCALL_RETURN_IF_ERROR(
        OnEngine(move->job_id, [group_id, index, first, end, bytes, count](Engine& engine) {
          const auto per_message =
              std::max<int64_t>(1, static_cast<int64_t>(kMaxBlocksBytes) / engine.block_bytes());
          *count = static_cast<int32_t>(std::min<int64_t>(per_message, end - first));
          return engine.ReadBlocks(group_id, index, first, *count, bytes.get());
        }));
    v1::MigrateRequest request;
    request.mutable_blocks()->set_first(first);
    request.mutable_blocks()->set_num_tokens(num_tokens);
    request.mutable_blocks()->set_data(bytes->data(), bytes->size());
    v1::MigrateResponse response;
    ROLLCALL_RETURN_IF_ERROR(
        Exchange(move, stream, request, v1::MigrateResponse::kStored, &response));
    metrics_.Sent(bytes->size());
    move->num_sent += *count;
  }
  return OkStatus();
}

Status MigrationSource::Transfer(Move* move, Stream* stream) {
  const uint64_t group_id = move->sequence.group_id;
  const int32_t index = move->sequence.index;
  const absl::Time until = clock_.Now() + kTransferTimeout;
  const auto offer = std::make_shared<v1::MigrateRequest>();
  const auto settled = std::make_shared<SettledBlocks>();
  const auto look = [&] {
    return OnEngine(move->job_id, [group_id, index, settled](Engine& engine) -> Status {
      ROLLCALL_ASSIGN_OR_RETURN(*settled, engine.Settled(group_id, index));
      return OkStatus();
    });
  };
  ROLLCALL_RETURN_IF_ERROR(
      OnEngine(move->job_id, [move, group_id, index, offer](Engine& engine) -> Status {
        ROLLCALL_ASSIGN_OR_RETURN(const int64_t version, engine.VersionOf(group_id, index));
        v1::MigrationOffer& o = *offer->mutable_offer();
        o.set_job_id(move->job_id);
        o.set_policy_version(version);
        o.set_block_size(engine.cache().block_size());
        o.set_block_bytes(engine.block_bytes());
        o.set_num_tokens(move->sequence.num_tokens);
        return OkStatus();
      }));
  v1::MigrateResponse response;
  ROLLCALL_RETURN_IF_ERROR(
      Exchange(move, stream, *offer, v1::MigrateResponse::kAccepted, &response));

  ROLLCALL_RETURN_IF_ERROR(look());
  move->epoch = settled->epoch;
  while (settled->num_blocks - move->num_sent > options_.last_stage_blocks) {
    if (++move->num_stages > options_.max_stages) {
      return Aborted("the sequence grows faster than it is copied");
    }
    if (clock_.Now() > until) return DeadlineExceeded("the copy takes too long");
    ROLLCALL_RETURN_IF_ERROR(SendBlocks(move, stream, settled->num_blocks,
                                        settled->num_blocks * offer->offer().block_size()));
    ROLLCALL_RETURN_IF_ERROR(look());
    if (settled->epoch != move->epoch) return Aborted("the sequence gave its blocks up meanwhile");
  }

  ++move->num_stages;
  const auto state = std::make_shared<SequenceState>();
  const uint64_t epoch = move->epoch;
  ROLLCALL_RETURN_IF_ERROR(
      OnEngine(move->job_id, [group_id, index, epoch, state](Engine& engine) -> Status {
        ROLLCALL_ASSIGN_OR_RETURN(*state, engine.Detach(group_id, index, epoch));
        return OkStatus();
      }));
  move->is_detached = true;
  move->paused = clock_.Now();
  const int32_t block_size = offer->offer().block_size();
  ROLLCALL_RETURN_IF_ERROR(SendBlocks(
      move, stream, (state->num_computed + block_size - 1) / block_size, state->num_computed));
  v1::MigrateRequest commit;
  CommitToProto(*state, commit.mutable_commit());
  ROLLCALL_RETURN_IF_ERROR(
      Exchange(move, stream, commit, v1::MigrateResponse::kCommitted, &response));
  ROLLCALL_RETURN_IF_ERROR(OnEngine(
      move->job_id, [group_id, index](Engine& engine) { return engine.Release(group_id, index); }));
  move->is_released = true;
  ++num_moved_;
  return OkStatus();
}

Status MigrationSource::Follow(Move* move, Stream* stream) {
  EngineLoop* loop = nullptr;
  {
    MutexLock lock(mu_);
    loop = loop_;
  }
  bool is_first = true;
  v1::MigrateResponse response;
  while (stream->Read(&response)) {
    Heard(move);
    if (!response.has_tokens()) return Internal("the destination answered out of turn");
    ROLLCALL_ASSIGN_OR_RETURN(SampledTokens tokens, TokensFromProto(response.tokens()));
    if (std::exchange(is_first, false)) {
      metrics_.MovedOut(move->num_stages, absl::ToDoubleSeconds(clock_.Now() - move->paused));
    }
    std::optional<CompletionEnd> end;
    if (response.tokens().end() == v1::MigratedTokens::END_STOP) end = CompletionEnd::kStop;
    if (response.tokens().end() == v1::MigratedTokens::END_LENGTH) end = CompletionEnd::kLength;
    const auto answer = std::make_shared<EngineAnswer>();
    loop->Deliver(move->job_id, move->sequence.group_id, move->sequence.index, std::move(tokens),
                  end, [answer](const Status& status) { Answer(*answer, status); });
    const Status delivered = Await(*answer);
    // Nobody waits for it any more, or a stop string ended it: the destination may forget it.
    if (delivered.code() == StatusCode::kNotFound) {
      move->context.TryCancel();
      return OkStatus();
    }
    ROLLCALL_RETURN_IF_ERROR(delivered);
    if (end) return OkStatus();
  }
  return Unavailable("the destination is lost");
}

}  // namespace rollcall
