#include "rollout_worker/migration/migration_service.h"

#include <deque>
#include <optional>
#include <utility>

#include "rollout_worker/migration/migration_codec.h"
#include "services/common/rpc/status_conversion.h"

namespace rollcall {
namespace {

// Responses that wait for the source to read them; a source that is slower than that is lost.
constexpr size_t kMaxQueued = 4096;
constexpr absl::Duration kLongest = absl::Hours(24);

// `engine` may be null: the job has none.
StatusOr<ReservationId> ReserveFor(Engine* engine, const v1::MigrationOffer& offer) {
  if (engine == nullptr) return NotFound("the job has no engine here");
  if (engine->cache().block_size() != offer.block_size() ||
      engine->block_bytes() != offer.block_bytes()) {
    return FailedPrecondition("KV blocks have " + std::to_string(engine->cache().block_size()) +
                              " tokens and " + std::to_string(engine->block_bytes()) +
                              " bytes here, " + std::to_string(offer.block_size()) + " and " +
                              std::to_string(offer.block_bytes()) + " there");
  }
  return engine->Reserve(offer.num_tokens());
}

// How many blocks it was.
StatusOr<int32_t> Store(Engine* engine, ReservationId reservation,
                        const v1::MigrationBlocks& blocks) {
  if (engine == nullptr) return NotFound("the job ended");
  ROLLCALL_RETURN_IF_ERROR(engine->GrowReservation(reservation, blocks.num_tokens()));
  ROLLCALL_RETURN_IF_ERROR(
      engine->WriteReserved(reservation, blocks.first(), std::as_bytes(std::span(blocks.data()))));
  return static_cast<int32_t>(static_cast<int64_t>(blocks.data().size()) / engine->block_bytes());
}

}  // namespace

// What a stream is about. The gRPC side (Stream) and the engine side hold it; each may end first.
class MigrationServiceImpl::Incoming : public std::enable_shared_from_this<Incoming> {
 public:
  explicit Incoming(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)), last_message_(shared_->clock.Now()) {}

  // From the stream, one message at a time; each is answered by Send or End.
  void Take(const v1::MigrateRequest& request);
  // The stream ended, whoever ended it.
  void Forget();

  // From the engine's thread.
  void SendTokens(const SampledTokens& tokens, std::optional<CompletionEnd> end);
  void End(const Status& status) ABSL_LOCKS_EXCLUDED(mu_);

  // The stream is there from the beginning until it says goodbye.
  void SetStream(Stream* stream) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    stream_ = stream;
  }
  bool is_running() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return is_running_;
  }
  // Whether the source owes a message since before `time`.
  bool IsSilentSince(absl::Time time) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return !is_running_ && last_message_ < time;
  }

 private:
  void Send(v1::MigrateResponse response) ABSL_LOCKS_EXCLUDED(mu_);
  void TakeOffer(const v1::MigrationOffer& offer);
  void TakeBlocks(const v1::MigrationBlocks& blocks);
  void TakeCommit(const v1::MigrationCommit& commit);

  const std::shared_ptr<Shared> shared_;
  // Of the stream's callbacks, which come one at a time.
  std::string job_id_;
  int64_t policy_version_ = 0;
  ModelId model_ = 0;
  // Of the engine's thread.
  std::optional<ReservationId> reservation_;
  uint64_t group_id_ = 0;
  bool is_forgotten_ = false;

  Mutex mu_;
  Stream* stream_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool is_running_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time last_message_ ABSL_GUARDED_BY(mu_);
};

// The gRPC side. Reads the next message when the one before was answered, until the sequence runs;
// then only writes.
class MigrationServiceImpl::Stream final
    : public grpc::ServerBidiReactor<v1::MigrateRequest, v1::MigrateResponse> {
 public:
  Stream(std::shared_ptr<Shared> shared, std::shared_ptr<Incoming> incoming)
      : shared_(std::move(shared)), incoming_(std::move(incoming)) {
    incoming_->SetStream(this);
    StartRead(&request_);
  }

  // Refused at the door.
  explicit Stream(const Status& status) { Finish(ToGrpc(status)); }

  void Write(v1::MigrateResponse response) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (is_finished_) return;
    if (queue_.size() >= kMaxQueued) {
      FinishLocked(ResourceExhausted("the source reads too slowly"));
      return;
    }
    queue_.push_back(std::move(response));
    if (queue_.size() == 1) StartWrite(&queue_.front());
  }

  // After what is queued; nothing may be written any more.
  void FinishWith(const Status& status) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (is_finished_ || end_) return;
    end_ = status;
    if (queue_.empty() || !status.ok()) FinishLocked(status);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {  // half-closed: normal once it runs
      if (!incoming_->is_running()) FinishWith(Cancelled("the source gave up"));
      return;
    }
    incoming_->Take(request_);
  }

  void OnWriteDone(bool ok) override {
    const bool is_running = incoming_->is_running();
    bool reads_on = false;
    {
      MutexLock lock(mu_);
      if (is_finished_) return;
      if (!ok) {
        FinishLocked(Cancelled("the source went away"));
        return;
      }
      queue_.pop_front();
      if (!queue_.empty()) {
        StartWrite(&queue_.front());
      } else if (end_) {
        FinishLocked(*end_);
        return;
      }
      // Answers and messages alternate until the sequence runs here; after that the source is
      // silent and the read that waits tells when it leaves.
      reads_on = !std::exchange(has_last_read_, is_running);
    }
    if (reads_on) StartRead(&request_);
  }

  void OnCancel() override {
    if (incoming_ == nullptr) return;
    incoming_->Forget();
    FinishWith(Cancelled("the source went away"));
  }

  void OnDone() override {
    if (incoming_ != nullptr) {
      incoming_->SetStream(nullptr);
      incoming_->Forget();
      MutexLock lock(shared_->mu);
      --shared_->num_streams;
      shared_->streams.erase(incoming_.get());
    }
    delete this;
  }

 private:
  void FinishLocked(const Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    is_finished_ = true;
    Finish(ToGrpc(status));
  }

  const std::shared_ptr<Shared> shared_;
  const std::shared_ptr<Incoming> incoming_;  // null: refused
  v1::MigrateRequest request_;
  Mutex mu_;
  std::deque<v1::MigrateResponse> queue_ ABSL_GUARDED_BY(mu_);  // the first is being written
  std::optional<Status> end_ ABSL_GUARDED_BY(mu_);
  bool has_last_read_ ABSL_GUARDED_BY(mu_) = false;
  bool is_finished_ ABSL_GUARDED_BY(mu_) = false;
};

void MigrationServiceImpl::Incoming::Send(v1::MigrateResponse response) {
  MutexLock lock(mu_);
  if (stream_ != nullptr) stream_->Write(std::move(response));
}

void MigrationServiceImpl::Incoming::End(const Status& status) {
  MutexLock lock(mu_);
  if (stream_ != nullptr) stream_->FinishWith(status);
}

void MigrationServiceImpl::Incoming::Take(const v1::MigrateRequest& request) {
  {
    MutexLock lock(mu_);
    last_message_ = shared_->clock.Now();
  }
  switch (request.step_case()) {
    case v1::MigrateRequest::kOffer:
      return TakeOffer(request.offer());
    case v1::MigrateRequest::kBlocks:
      return TakeBlocks(request.blocks());
    case v1::MigrateRequest::kCommit:
      return TakeCommit(request.commit());
    default:
      return End(InvalidArgument("a message without a step"));
  }
}

void MigrationServiceImpl::Incoming::TakeOffer(const v1::MigrationOffer& offer) {
  if (!job_id_.empty()) return End(InvalidArgument("one stream is one sequence"));
  if (offer.job_id().empty() || offer.num_tokens() < 1) {
    return End(InvalidArgument("an offer names its job and its tokens"));
  }
  job_id_ = offer.job_id();
  policy_version_ = offer.policy_version();
  const StatusOr<ModelId> model = shared_->find_model(job_id_, policy_version_);
  if (!model.ok()) {
    shared_->metrics.Refused();
    return End(model.status());
  }
  model_ = *model;
  shared_->loop.load()->RunOn(job_id_, [self = shared_from_this(), offer](Engine* engine) {
    if (self->is_forgotten_) return;
    const StatusOr<ReservationId> reservation = ReserveFor(engine, offer);
    if (reservation.ok()) self->reservation_ = *reservation;
    if (!reservation.ok()) {
      self->shared_->metrics.Refused();
      return self->End(reservation.status());
    }
    v1::MigrateResponse response;
    response.set_accepted(true);
    self->Send(std::move(response));
  });
}

void MigrationServiceImpl::Incoming::TakeBlocks(const v1::MigrationBlocks& blocks) {
  if (job_id_.empty()) return End(InvalidArgument("an offer comes first"));
  shared_->loop.load()->RunOn(job_id_, [self = shared_from_this(), blocks](Engine* engine) {
    if (self->is_forgotten_ || !self->reservation_) return;
    const StatusOr<int32_t> stored = Store(engine, *self->reservation_, blocks);
    if (!stored.ok()) return self->End(stored.status());
    v1::MigrateResponse response;
    response.set_stored(*stored);
    self->Send(std::move(response));
  });
}

void MigrationServiceImpl::Incoming::TakeCommit(const v1::MigrationCommit& commit) {
  if (job_id_.empty()) return End(InvalidArgument("an offer comes first"));
  AdoptWork work;
  work.job_id = job_id_;
  work.state = CommitFromProto(commit, policy_version_);
  work.state.request.model = model_;
  // The source ends the stream when its own group ends, whatever the reason.
  work.deadline = shared_->clock.Now() + kLongest;
  uint64_t group_id = 0;
  {
    MutexLock lock(shared_->mu);
    if (shared_->is_stopped) return End(Unavailable("this worker is leaving"));
    group_id = shared_->next_group++;
    shared_->running.emplace(group_id, shared_from_this());
  }
  work.state.request.group_id = group_id;
  auto shared_work = std::make_shared<AdoptWork>(std::move(work));
  // The reservation is known to the engine's thread only.
  shared_->loop.load()->RunOn(job_id_, [self = shared_from_this(), shared_work](Engine*) {
    const auto drop = [&] {
      MutexLock lock(self->shared_->mu);
      self->shared_->running.erase(shared_work->state.request.group_id);
    };
    if (self->is_forgotten_ || !self->reservation_) {
      drop();
      return self->End(Cancelled("the stream ended"));
    }
    self->group_id_ = shared_work->state.request.group_id;
    shared_work->reservation = *std::exchange(self->reservation_, std::nullopt);
    self->shared_->loop.load()->Adopt(std::move(*shared_work), [self](const Status& status) {
      if (!status.ok()) {
        {
          MutexLock lock(self->shared_->mu);
          self->shared_->running.erase(self->group_id_);
        }
        self->group_id_ = 0;
        self->shared_->metrics.Refused();
        return self->End(status);
      }
      // The source left while the adoption was queued.
      if (self->is_forgotten_) return self->shared_->loop.load()->Abort(self->group_id_);
      {
        MutexLock lock(self->mu_);
        self->is_running_ = true;
      }
      self->shared_->metrics.MovedIn();
      v1::MigrateResponse response;
      response.set_committed(true);
      self->Send(std::move(response));
    });
  });
}

void MigrationServiceImpl::Incoming::SendTokens(const SampledTokens& tokens,
                                                std::optional<CompletionEnd> end) {
  v1::MigrateResponse response;
  TokensToProto(tokens, response.mutable_tokens());
  if (end) {
    response.mutable_tokens()->set_end(*end == CompletionEnd::kStop
                                           ? v1::MigratedTokens::END_STOP
                                           : v1::MigratedTokens::END_LENGTH);
  }
  Send(std::move(response));
}

void MigrationServiceImpl::Incoming::Forget() {
  EngineLoop* loop = nullptr;
  {
    MutexLock lock(shared_->mu);
    if (!shared_->is_stopped) loop = shared_->loop;
  }
  if (loop == nullptr || job_id_.empty()) return;
  loop->RunOn(job_id_, [self = shared_from_this(), loop](Engine* engine) {
    if (std::exchange(self->is_forgotten_, true)) return;
    if (self->reservation_ && engine != nullptr) engine->DropReservation(*self->reservation_);
    self->reservation_.reset();
    if (self->group_id_ == 0) return;
    {
      MutexLock lock(self->shared_->mu);
      self->shared_->running.erase(self->group_id_);
    }
    loop->Abort(self->group_id_);
  });
}

MigrationServiceImpl::MigrationServiceImpl(const MigrationOptions& options, FindModel find_model,
                                           MigrationMetrics& metrics, const Clock& clock)
    : shared_(std::make_shared<Shared>(options, std::move(find_model), metrics, clock)) {}

MigrationServiceImpl::~MigrationServiceImpl() { Stop(); }

void MigrationServiceImpl::Stop() {
  std::unordered_map<uint64_t, std::shared_ptr<Incoming>> running;
  {
    MutexLock lock(shared_->mu);
    shared_->is_stopped = true;
    running.swap(shared_->running);
  }
  for (const auto& [group_id, incoming] : running) {
    incoming->End(Unavailable("this worker is leaving"));
  }
}

void MigrationServiceImpl::EndSilent() {
  const absl::Time limit = shared_->clock.Now() - shared_->options.message_timeout;
  std::vector<std::shared_ptr<Incoming>> silent;
  {
    MutexLock lock(shared_->mu);
    for (Incoming* incoming : shared_->streams) {
      if (incoming->IsSilentSince(limit)) silent.push_back(incoming->shared_from_this());
    }
  }
  for (const auto& incoming : silent) {
    shared_->metrics.Refused();
    incoming->End(DeadlineExceeded("the source sent nothing for too long"));
  }
}

std::shared_ptr<MigrationServiceImpl::Incoming> MigrationServiceImpl::Find(uint64_t group_id) {
  MutexLock lock(shared_->mu);
  const auto it = shared_->running.find(group_id);
  return it == shared_->running.end() ? nullptr : it->second;
}

EngineEvents MigrationServiceImpl::events() {
  EngineEvents events;
  events.on_tokens = [this](const std::vector<StreamedTokens>& streamed) {
    for (const StreamedTokens& tokens : streamed) {
      if (const auto incoming = Find(tokens.group_id)) incoming->SendTokens(tokens, std::nullopt);
    }
  };
  const auto end = [this](uint64_t group_id, const Status& status, CompletionEnd how) {
    std::shared_ptr<Incoming> incoming;
    {
      MutexLock lock(shared_->mu);
      const auto it = shared_->running.find(group_id);
      if (it == shared_->running.end()) return;
      incoming = std::move(it->second);
      shared_->running.erase(it);
    }
    if (status.ok()) incoming->SendTokens({}, how);
    incoming->End(status);
  };
  events.on_samples = [end](const std::vector<CompletedSample>& samples) {
    for (const CompletedSample& sample : samples) end(sample.group_id, sample.status, sample.end);
  };
  events.on_group_failed = [end](uint64_t group_id, const Status& status) {
    end(group_id, status, CompletionEnd::kLength);
  };
  events.on_step = [] {};
  events.on_loads = [this](const std::vector<JobLoad>&) { EndSilent(); };
  return events;
}

grpc::ServerBidiReactor<v1::MigrateRequest, v1::MigrateResponse>* MigrationServiceImpl::Receive(
    grpc::CallbackServerContext* /*context*/) {
  {
    MutexLock lock(shared_->mu);
    if (shared_->is_stopped) return new Stream(Unavailable("this worker is leaving"));
    if (shared_->loop == nullptr) return new Stream(Unavailable("this worker is not ready yet"));
    if (shared_->num_streams >= shared_->options.max_streams) {
      return new Stream(ResourceExhausted("as many sequences as allowed are moving here already"));
    }
    ++shared_->num_streams;
  }
  const auto incoming = std::make_shared<Incoming>(shared_);
  {
    MutexLock lock(shared_->mu);
    shared_->streams.insert(incoming.get());
  }
  return new Stream(shared_, incoming);
}

}  // namespace rollcall
