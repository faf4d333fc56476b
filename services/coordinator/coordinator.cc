#include "services/coordinator/coordinator.h"

#include <algorithm>
#include <utility>

#include "services/coordinator/job/sample_view.h"

namespace rollcall::coordinator {
namespace {

constexpr size_t kMaxSourceBytes = 256 << 10;
constexpr int32_t kMaxInspected = 1000;
constexpr int32_t kDefaultInspected = 20;

// The files of a job that a restarted coordinator goes on with must be the same files.
StatusOr<std::shared_ptr<const PreparedJob>> PrepareAgain(const StoredJob& stored) {
  ROLLCALL_ASSIGN_OR_RETURN(auto prepared, PrepareJob(*stored.record.spec));
  if (prepared->data.hash != stored.record.data_hash) {
    return FailedPrecondition(stored.record.spec->data().path(0) +
                              " changed while the coordinator was away");
  }
  if (prepared->evaluation.hash != stored.record.evaluate_hash) {
    return FailedPrecondition(stored.record.spec->evaluate().path() +
                              " changed while the coordinator was away");
  }
  return prepared;
}

bool Ended(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

}  // namespace

Coordinator::Coordinator(const CoreOptions& options, JobEnvironment environment, Journal& journal,
                         const Clock& clock)
    : clock_(clock),
      journal_(journal),
      logger_(environment.logger),
      core_(options, environment, journal) {}

Status Coordinator::Recover(SqliteStore& store) {
  ROLLCALL_ASSIGN_OR_RETURN(std::vector<StoredJob> jobs, store.LoadJobs());
  for (StoredJob& stored : jobs) {
    const JobNumber number = stored.record.job;
    std::shared_ptr<const PreparedJob> prepared;
    std::string broken;
    if (!Ended(stored.status.state())) {
      auto again = PrepareAgain(stored);
      if (again.ok()) {
        prepared = *std::move(again);
      } else {
        // The job cannot go on; its record says so from now on.
        broken = Message(again.status());
        stored.status.set_state(v1::JOB_STATE_FAILED);
        stored.status.set_state_reason(broken);
        *stored.status.mutable_ended_at() = ToProto(clock_.Now());
      }
    }
    if (!broken.empty()) {
      logger_.Error("job cannot be restored job=" + JobId(number) + " reason=" + broken);
      const Record record = JobStatusRecord{number, stored.status};
      ROLLCALL_RETURN_IF_ERROR(store.Apply(std::span(&record, 1)));
    }
    MutexLock lock(mu_);
    ROLLCALL_RETURN_IF_ERROR(
        core_.RestoreJob(std::move(stored), std::move(prepared), store, clock_.Now()));
  }
  return OkStatus();
}

void Coordinator::Do(const std::function<void(Core&, Turn&)>& fn) {
  Turn turn;
  std::vector<Core::WantedRead> reads;
  {
    MutexLock lock(mu_);
    if (stopped_) return;
    turn.now = clock_.Now();
    fn(core_, turn);
    reads = core_.Settle(turn);
    // Under the lock, so that the journal has the order of the turns. Appending only queues.
    if (!turn.records.empty() || !turn.on_durable.empty()) {
      std::function<void()> done;
      if (!turn.on_durable.empty()) {
        done = [callbacks = std::move(turn.on_durable)] {
          for (const auto& callback : callbacks) callback();
        };
      }
      journal_.Append(std::move(turn.records), std::move(done));
    }
  }
  for (const auto& callback : turn.after) callback();
  for (const Core::WantedRead& read : reads) {
    journal_.Read([this, read](SqliteStore& store) {
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

void Coordinator::Tick() {
  Do([](Core& core, Turn& turn) { core.Tick(turn); });
}

void Coordinator::Stop() {
  MutexLock lock(mu_);
  stopped_ = true;
  core_.DropWaiters();
}

void Coordinator::FailJob(JobNumber job, const std::string& reason) {
  Do([&](Core& core, Turn& turn) { core.FailJob(turn, job, reason); });
}

void Coordinator::SubmitJob(const v1::SubmitJobRequest& request, Call<v1::SubmitJobResponse> call) {
  if (request.source_yaml().size() > kMaxSourceBytes || request.request_id().size() > 256) {
    call.reply(InvalidArgument("source_yaml: at most 256 KiB; request_id: at most 256 bytes"), {});
    return;
  }
  StatusOr<Core::Submission> submission = Unavailable("the coordinator stops");
  Do([&](Core& core, Turn& turn) { submission = core.BeginSubmit(turn, request.request_id()); });
  if (!submission.ok()) {
    call.reply(submission.status(), {});
    return;
  }
  if (submission->known) {
    v1::SubmitJobResponse response;
    response.set_job_id(JobId(submission->job));
    response.set_run_dir(submission->run_dir);
    call.reply(OkStatus(), std::move(response));
    return;
  }
  const Status status = PrepareAndAdd(request, submission->job, call);
  if (status.ok()) return;
  Do([&](Core& core, Turn& turn) { core.AbandonSubmit(turn, request.request_id()); });
  call.reply(status, {});
}

Status Coordinator::PrepareAndAdd(const v1::SubmitJobRequest& request, JobNumber job,
                                  Call<v1::SubmitJobResponse>& call) {
  ROLLCALL_ASSIGN_OR_RETURN(auto prepared, PrepareJob(request.spec()));
  JobRecord record;
  record.job = job;
  record.request_id = request.request_id();
  record.spec = prepared->spec;
  record.source_yaml = request.source_yaml();
  record.data_hash = prepared->data.hash;
  record.evaluate_hash = prepared->evaluation.hash;
  ROLLCALL_ASSIGN_OR_RETURN(record.run_dir,
                            MakeRunDirectory(request.spec(), job, request.source_yaml()));
  Do([&](Core& core, Turn& turn) {
    core.AddJob(turn, std::move(record), std::move(prepared), call);
  });
  return OkStatus();
}

void Coordinator::InspectSamples(const v1::InspectSamplesRequest& request,
                                 Call<v1::InspectSamplesResponse> call) {
  StatusOr<Core::JobSource> source = Unavailable("the coordinator stops");
  Do([&](Core& core, Turn&) { source = core.FindJobSource(request.job_id()); });
  if (!source.ok()) {
    call.reply(source.status(), {});
    return;
  }
  if (request.has_step() && request.has_evaluated_version()) {
    call.reply(InvalidArgument("step or evaluated_version, not both"), {});
    return;
  }
  const int32_t limit =
      request.limit() == 0 ? kDefaultInspected : std::clamp(request.limit(), 1, kMaxInspected);
  SampleQuery query;
  query.job = source->job;
  query.limit = limit;
  query.max_iteration = INT64_MAX;
  if (request.has_evaluated_version()) {
    query.purpose = v1::SAMPLE_PURPOSE_EVALUATE;
    query.min_iteration = query.max_iteration = request.evaluated_version();
  } else if (request.has_step()) {
    query.min_iteration = query.max_iteration = request.step() - 1;
  }
  if (request.has_prompt_id()) query.prompt_id = request.prompt_id();
  journal_.Read([query, source = *source, call](SqliteStore& store) {
    const auto samples = store.LoadSamples(query);
    v1::InspectSamplesResponse response;
    if (samples.ok() && !samples->empty()) {
      std::shared_ptr<const Tokenizer> tokenizer = source.tokenizer;
      if (tokenizer == nullptr) {
        // The job ended; its model may be gone since, and then tokens go without text.
        const auto loaded = LoadTokenizer(source.spec->model().path());
        if (loaded.ok()) tokenizer = *loaded;
      }
      for (const StoredSample& sample : *samples) {
        *response.add_samples() = MakeSampleView(sample, tokenizer.get());
      }
    }
    call.reply(samples.status(), std::move(response));
  });
}

void Coordinator::ReadSteps(JobNumber job, int64_t from_step, int64_t limit,
                            std::function<void(StatusOr<std::vector<StepRecord>>)> done) {
  journal_.Read([=, done = std::move(done)](SqliteStore& store) {
    done(store.LoadSteps(job, from_step, limit));
  });
}

}  // namespace rollcall::coordinator
