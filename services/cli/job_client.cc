#include "services/cli/job_client.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "absl/time/clock.h"
#include "rollcall/v1/coordinator.grpc.pb.h"
#include "services/cli/render/watch_view.h"
#include "services/common/rpc/client.h"

namespace rollcall {
namespace {

constexpr absl::Duration kReadTimeout = absl::Seconds(10);
// Submitting reads model and data headers.
constexpr absl::Duration kSubmitTimeout = absl::Seconds(60);
constexpr absl::Duration kControlTimeout = absl::Seconds(30);
// How long an unreachable coordinator is called again.
constexpr absl::Duration kShortPatience = absl::Milliseconds(300);
constexpr absl::Duration kSupervisedPatience = absl::Seconds(8);
constexpr absl::Duration kLeastWait = absl::Milliseconds(20);
// A stream is renewed after this long, so that no call is without a deadline.
constexpr absl::Duration kStreamLifetime = absl::Minutes(30);

std::string Describe(std::span<const v1::JobStatus> jobs) {
  if (jobs.empty()) return "there are no jobs";
  std::string text = "jobs: ";
  constexpr size_t kMost = 10;
  for (size_t i = 0; i < std::min(jobs.size(), kMost); ++i) {
    text += (i > 0 ? ", " : "") + jobs[i].job_id();
  }
  if (jobs.size() > kMost) text += ", ...";
  return text;
}

bool IsNewer(const v1::JobStatus& a, const v1::JobStatus& b) {
  const auto& at = a.submitted_at();
  const auto& bt = b.submitted_at();
  if (at.seconds() != bt.seconds()) return at.seconds() > bt.seconds();
  if (at.nanos() != bt.nanos()) return at.nanos() > bt.nanos();
  return a.job_id() > b.job_id();
}

}  // namespace

StatusOr<std::string> MatchJob(const std::string& text, std::span<const v1::JobStatus> jobs) {
  std::vector<const v1::JobStatus*> newest_first;
  for (const v1::JobStatus& job : jobs) newest_first.push_back(&job);
  std::sort(newest_first.begin(), newest_first.end(),
            [](const v1::JobStatus* a, const v1::JobStatus* b) { return IsNewer(*a, *b); });
  if (text == "last" && !newest_first.empty()) return newest_first.front()->job_id();

  std::vector<const v1::JobStatus*> by_prefix;
  std::vector<const v1::JobStatus*> by_name;
  for (const v1::JobStatus* job : newest_first) {
    if (job->job_id() == text) return text;
    if (!text.empty() && job->job_id().rfind(text, 0) == 0) by_prefix.push_back(job);
    if (job->name() == text) by_name.push_back(job);
  }
  if (!by_name.empty()) {
    const auto num_live = std::count_if(by_name.begin(), by_name.end(),
                                        [](const auto* job) { return !IsTerminal(job->state()); });
    if (num_live <= 1) {
      const auto live = std::find_if(by_name.begin(), by_name.end(),
                                     [](const auto* job) { return !IsTerminal(job->state()); });
      return (live != by_name.end() ? *live : by_name.front())->job_id();
    }
    by_prefix = by_name;
  }
  if (by_prefix.size() == 1) return by_prefix.front()->job_id();
  if (by_prefix.size() > 1) {
    std::string ids;
    for (const v1::JobStatus* job : by_prefix) ids += (ids.empty() ? "" : ", ") + job->job_id();
    return InvalidArgument("'" + text + "' could be any of " + std::to_string(by_prefix.size()) +
                           " jobs\ngive more of the id: " + ids);
  }
  return NotFound("no job '" + text + "'\n" + Describe(jobs));
}

struct JobClient::Connection {
  std::string address;
  absl::Duration patience;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::JobService::Stub> stub;

  // Says where a call went that was not answered.
  Status Explain(const Status& status) const {
    if (status.code() == StatusCode::kUnavailable) {
      return Unavailable("cannot reach the coordinator at " + address + " (" + Message(status) +
                         ")\nstart a local cluster with `rollcall up`, or name another with "
                         "--coordinator host:port");
    }
    if (status.code() == StatusCode::kDeadlineExceeded) {
      return DeadlineExceeded("the coordinator at " + address +
                              " did not answer in time\nit may be stopped or overloaded: see "
                              "`rollcall logs coordinator`");
    }
    return status;
  }

  void Await(absl::Duration timeout) {
    // A coordinator that connects and then refuses must not be asked in a tight loop.
    absl::SleepFor(std::min(timeout, kLeastWait));
    channel->WaitForConnected(absl::ToChronoTime(absl::Now() + timeout));
  }

  template <typename Request, typename Response>
  StatusOr<Response> Invoke(grpc::Status (v1::JobService::Stub::*method)(grpc::ClientContext*,
                                                                         const Request&, Response*),
                            const Request& request, absl::Duration timeout) {
    // All calls may be repeated: reads change nothing, a submit carries a request id, and pause,
    // resume and cancel name a state.
    const absl::Time give_up = absl::Now() + patience;
    while (true) {
      Response response;
      const Status status = Call(*stub, method, request, &response, {.timeout = timeout});
      if (status.ok()) return response;
      const absl::Duration left = give_up - absl::Now();
      if (status.code() != StatusCode::kUnavailable || left <= absl::ZeroDuration()) {
        return Explain(status);
      }
      Await(left);
    }
  }
};

JobClient::JobClient(std::string address, std::unique_ptr<Connection> connection)
    : address_(std::move(address)), connection_(std::move(connection)) {}
JobClient::JobClient(JobClient&&) noexcept = default;
JobClient& JobClient::operator=(JobClient&&) noexcept = default;
JobClient::~JobClient() = default;

StatusOr<JobClient> JobClient::Connect(const std::string& address, const TlsOptions& tls,
                                       Patience patience) {
  StatusOr<std::shared_ptr<grpc::Channel>> channel = MakeChannel(address, tls);
  if (!channel.ok()) return Annotate(channel.status(), "--coordinator");
  auto connection = std::make_unique<Connection>();
  connection->address = address;
  connection->patience = patience == Patience::kShort ? kShortPatience : kSupervisedPatience;
  connection->channel = std::move(channel).value();
  connection->stub = v1::JobService::NewStub(connection->channel);
  return JobClient(address, std::move(connection));
}

StatusOr<v1::SubmitJobResponse> JobClient::Submit(const v1::SubmitJobRequest& request) {
  return connection_->Invoke(&v1::JobService::Stub::SubmitJob, request, kSubmitTimeout);
}

StatusOr<v1::ListJobsResponse> JobClient::List() {
  return connection_->Invoke(&v1::JobService::Stub::ListJobs, v1::ListJobsRequest(), kReadTimeout);
}

StatusOr<v1::GetJobResponse> JobClient::Get(const std::string& job_id) {
  v1::GetJobRequest request;
  request.set_job_id(job_id);
  return connection_->Invoke(&v1::JobService::Stub::GetJob, request, kReadTimeout);
}

StatusOr<v1::InspectSamplesResponse> JobClient::Inspect(const v1::InspectSamplesRequest& request) {
  return connection_->Invoke(&v1::JobService::Stub::InspectSamples, request, kReadTimeout);
}

StatusOr<v1::GetClusterResponse> JobClient::Cluster() {
  return connection_->Invoke(&v1::JobService::Stub::GetCluster, v1::GetClusterRequest(),
                             kReadTimeout);
}

StatusOr<v1::JobStatus> JobClient::Control(Action action, const std::string& job_id) {
  v1::ControlJobRequest request;
  request.set_job_id(job_id);
  const auto method = action == Action::kPause    ? &v1::JobService::Stub::PauseJob
                      : action == Action::kResume ? &v1::JobService::Stub::ResumeJob
                                                  : &v1::JobService::Stub::CancelJob;
  ROLLCALL_ASSIGN_OR_RETURN(const v1::ControlJobResponse response,
                            connection_->Invoke(method, request, kControlTimeout));
  return response.status();
}

StatusOr<std::string> JobClient::ResolveJob(const std::string& text) {
  ROLLCALL_ASSIGN_OR_RETURN(const v1::ListJobsResponse response, List());
  const std::vector<v1::JobStatus> jobs(response.jobs().begin(), response.jobs().end());
  return MatchJob(text, jobs);
}

void JobClient::AwaitConnection(absl::Duration timeout) { connection_->Await(timeout); }

Status JobClient::Watch(const std::string& job_id, int64_t from_step,
                        const std::function<bool(const v1::JobEvent&)>& on_event) {
  v1::WatchJobRequest request;
  request.set_job_id(job_id);
  request.set_from_step(from_step);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kStreamLifetime));
  const auto reader = connection_->stub->WatchJob(&context, request);
  v1::JobEvent event;
  bool goes_on = true;
  while (goes_on && reader->Read(&event)) goes_on = on_event(event);
  if (!goes_on) context.TryCancel();
  const grpc::Status end = reader->Finish();
  if (!goes_on) return OkStatus();
  return FromGrpc(end);
}

Status FollowJob(JobClient& client, const std::string& job_id, absl::Duration patience,
                 const std::function<void(const v1::JobEvent&)>& on_event,
                 const std::function<void(const Status&)>& on_disconnect) {
  constexpr absl::Duration kFirstWait = absl::Milliseconds(50);
  constexpr absl::Duration kMostWait = absl::Seconds(1);
  int64_t next_step = 0;
  bool has_ended = false;
  absl::Time last_event = absl::Now();
  absl::Duration wait = kFirstWait;
  while (true) {
    const Status status = client.Watch(job_id, next_step, [&](const v1::JobEvent& event) {
      last_event = absl::Now();
      wait = kFirstWait;
      if (event.has_step()) next_step = std::max(next_step, event.step().step() + 1);
      on_event(event);
      // The steps before the end come before the state that ends it, but a stream may close in
      // between; the server ends the stream.
      has_ended = event.has_status() && IsTerminal(event.status().state());
      return true;
    });
    if (status.ok() && has_ended) return OkStatus();
    const bool is_transient = status.ok() || status.code() == StatusCode::kUnavailable ||
                              status.code() == StatusCode::kDeadlineExceeded ||
                              status.code() == StatusCode::kCancelled;
    if (!is_transient) return status;
    if (absl::Now() - last_event > patience) {
      return Unavailable(
          fmt::format("lost the coordinator at {} for more than {} while watching {}\nthe job "
                      "itself may go on; "
                      "watch it again when the coordinator is back",
                      client.address(), absl::FormatDuration(patience), job_id));
    }
    if (!status.ok() && status.code() != StatusCode::kDeadlineExceeded) on_disconnect(status);
    client.AwaitConnection(wait);
    wait = std::min(wait * 2, kMostWait);
  }
}

}  // namespace rollcall
