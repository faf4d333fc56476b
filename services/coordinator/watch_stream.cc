#include "services/coordinator/watch_stream.h"

#include <algorithm>
#include <utility>

#include "services/common/rpc/status_conversion.h"

namespace rollcall::coordinator {
namespace {

constexpr int64_t kPageSteps = 256;
// A watcher that is this far behind starts again from the step that it has.
constexpr size_t kMaxQueuedEvents = 4096;

bool IsTerminal(const v1::JobEvent& event) {
  if (!event.has_status()) return false;
  const v1::JobState state = event.status().state();
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

class Reactor;

// Outlives the reactor: the core and the journal hold it.
class Stream final : public JobWatcher, public std::enable_shared_from_this<Stream> {
 public:
  Stream(Coordinator& coordinator, JobNumber job, int64_t from_step)
      : coordinator_(coordinator), job_(job), next_step_(std::max<int64_t>(1, from_step)) {}

  void OnEvent(std::shared_ptr<const v1::JobEvent> event) override ABSL_LOCKS_EXCLUDED(mu_);
  bool closed() const override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return reactor_ == nullptr;
  }

  void Attach(Reactor* reactor) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    reactor_ = reactor;
  }
  void Detach() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    reactor_ = nullptr;
    queue_.clear();
  }
  void ReadPage();
  void OnPage(StatusOr<std::vector<StepRecord>> page) ABSL_LOCKS_EXCLUDED(mu_);
  void WriteDone() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    writing_ = false;
    Pump();
  }
  void Finish(const Status& status) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    FinishLocked(status);
  }

 private:
  void Queue(std::shared_ptr<const v1::JobEvent> event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FinishLocked(const Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Coordinator& coordinator_;
  const JobNumber job_;

  mutable Mutex mu_;
  Reactor* reactor_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::deque<std::shared_ptr<const v1::JobEvent>> queue_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const v1::JobEvent> in_flight_ ABSL_GUARDED_BY(mu_);
  // Held back until the steps before it were replayed.
  std::shared_ptr<const v1::JobEvent> last_status_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool replaying_ ABSL_GUARDED_BY(mu_) = true;
  bool page_wanted_ ABSL_GUARDED_BY(mu_) = false;
  bool finishing_ ABSL_GUARDED_BY(mu_) = false;
  int64_t next_step_ ABSL_GUARDED_BY(mu_);
  int64_t newest_live_ ABSL_GUARDED_BY(mu_) = 0;
};

class Reactor final : public grpc::ServerWriteReactor<v1::JobEvent> {
 public:
  explicit Reactor(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {}

  void OnWriteDone(bool ok) override {
    if (ok) {
      stream_->WriteDone();
    } else {
      stream_->Finish(Cancelled("the watcher left"));
    }
  }
  void OnCancel() override { stream_->Finish(Cancelled("the watcher left")); }
  void OnDone() override {
    stream_->Detach();
    delete this;
  }

 private:
  const std::shared_ptr<Stream> stream_;
};

void Stream::OnEvent(std::shared_ptr<const v1::JobEvent> event) {
  MutexLock lock(mu_);
  if (reactor_ == nullptr || finishing_) return;
  if (event->has_step()) {
    newest_live_ = std::max(newest_live_, event->step().step());
    if (replaying_ || event->step().step() < next_step_) return;
    next_step_ = event->step().step() + 1;
  } else if (replaying_ && IsTerminal(*event)) {
    last_status_ = std::move(event);
    return;
  }
  Queue(std::move(event));
  Pump();
}

void Stream::Queue(std::shared_ptr<const v1::JobEvent> event) {
  if (queue_.size() >= kMaxQueuedEvents) {
    // What is queued never gets there.
    int64_t first_unsent = event->has_step() ? event->step().step() : next_step_;
    for (const auto& waiting : queue_) {
      if (waiting->has_step()) first_unsent = std::min(first_unsent, waiting->step().step());
    }
    FinishLocked(ResourceExhausted("the watcher is too slow: watch again from step " +
                                   std::to_string(first_unsent)));
    return;
  }
  queue_.push_back(std::move(event));
}

void Stream::ReadPage() {
  int64_t from = 0;
  {
    MutexLock lock(mu_);
    from = next_step_;
  }
  coordinator_.ReadSteps(job_, from, kPageSteps,
                         [self = shared_from_this()](auto page) { self->OnPage(std::move(page)); });
}

void Stream::OnPage(StatusOr<std::vector<StepRecord>> page) {
  bool again = false;
  {
    MutexLock lock(mu_);
    if (reactor_ == nullptr || finishing_) return;
    if (!page.ok()) {
      FinishLocked(page.status());
      return;
    }
    for (const StepRecord& step : *page) {
      auto event = std::make_shared<v1::JobEvent>();
      event->mutable_step()->set_step(step.step);
      *event->mutable_step()->mutable_time() = ToProto(step.time);
      event->mutable_step()->mutable_metrics()->insert(step.metrics.begin(), step.metrics.end());
      next_step_ = step.step + 1;
      Queue(std::move(event));
      if (finishing_) return;
    }
    if (static_cast<int64_t>(page->size()) == kPageSteps) {
      // The next page when these are on their way.
      page_wanted_ = true;
    } else if (next_step_ <= newest_live_) {
      again = true;
    } else {
      replaying_ = false;
      if (last_status_ != nullptr) Queue(std::move(last_status_));
    }
    Pump();
  }
  if (again) ReadPage();
}

void Stream::Pump() {
  if (reactor_ == nullptr || writing_ || finishing_) return;
  if (queue_.empty()) {
    if (!page_wanted_) return;
    page_wanted_ = false;
    // Queues a read in the journal, nothing more.
    coordinator_.ReadSteps(job_, next_step_, kPageSteps, [self = shared_from_this()](auto page) {
      self->OnPage(std::move(page));
    });
    return;
  }
  in_flight_ = std::move(queue_.front());
  queue_.pop_front();
  writing_ = true;
  if (IsTerminal(*in_flight_)) {
    finishing_ = true;
    reactor_->StartWriteAndFinish(in_flight_.get(), grpc::WriteOptions(), grpc::Status::OK);
    return;
  }
  reactor_->StartWrite(in_flight_.get());
}

void Stream::FinishLocked(const Status& status) {
  if (reactor_ == nullptr || finishing_) return;
  finishing_ = true;
  queue_.clear();
  reactor_->Finish(ToGrpc(status));
}

}  // namespace

grpc::ServerWriteReactor<v1::JobEvent>* StartWatch(Coordinator& coordinator,
                                                   const v1::WatchJobRequest& request) {
  auto stream =
      std::make_shared<Stream>(coordinator, ParseJobId(request.job_id()), request.from_step());
  auto* reactor = new Reactor(stream);
  stream->Attach(reactor);
  Status status = Unavailable("the coordinator stops");
  coordinator.Do(
      [&](Core& core, Turn& turn) { status = core.WatchJob(turn, request.job_id(), stream); });
  if (status.ok()) {
    stream->ReadPage();
  } else {
    stream->Finish(status);
  }
  return reactor;
}

}  // namespace rollcall::coordinator
