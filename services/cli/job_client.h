// The public API of the coordinator, as the verbs use it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/time/time.h"
#include "rollcall/v1/coordinator.pb.h"
#include "services/base/status/status.h"
#include "services/common/rpc/options.h"

namespace rollcall {

// The job that `text` means: its id, a prefix of exactly one id, the name of exactly one job
// (the newest of that name when older ones have ended), or "last" for the newest job.
// kNotFound and kInvalidArgument (ambiguous) list what there is.
StatusOr<std::string> MatchJob(const std::string& text, std::span<const v1::JobStatus> jobs);

// Blocking calls with deadlines. kUnavailable and kDeadlineExceeded name the address and what to
// do.
class JobClient {
 public:
  // How long calls are repeated while nobody answers: under a second, or some seconds where a
  // supervisor is known to be bringing the coordinator back.
  enum class Patience { kShort, kSupervised };
  static StatusOr<JobClient> Connect(const std::string& address, const TlsOptions& tls = {},
                                     Patience patience = Patience::kShort);
  JobClient(JobClient&&) noexcept;
  JobClient& operator=(JobClient&&) noexcept;
  ~JobClient();

  const std::string& address() const { return address_; }

  StatusOr<v1::SubmitJobResponse> Submit(const v1::SubmitJobRequest& request);
  StatusOr<v1::ListJobsResponse> List();
  StatusOr<v1::GetJobResponse> Get(const std::string& job_id);
  StatusOr<v1::InspectSamplesResponse> Inspect(const v1::InspectSamplesRequest& request);
  StatusOr<v1::GetClusterResponse> Cluster();
  enum class Action { kPause, kResume, kCancel };
  StatusOr<v1::JobStatus> Control(Action action, const std::string& job_id);

  // MatchJob against the coordinator's jobs.
  StatusOr<std::string> ResolveJob(const std::string& text);

  // One stream of events from `from_step` on, until it ends or `on_event` returns false (kOk both).
  Status Watch(const std::string& job_id, int64_t from_step,
               const std::function<bool(const v1::JobEvent&)>& on_event);

  // Waits until the coordinator can be called, at most this long. A plain sleep would not do: a
  // program without a server of its own moves its connections only while it waits for gRPC.
  void AwaitConnection(absl::Duration timeout);

 private:
  // Keeps gRPC out of the verbs.
  struct Connection;

  JobClient(std::string address, std::unique_ptr<Connection> connection);

  std::string address_;
  std::unique_ptr<Connection> connection_;
};

// Follows a job to its end over any number of coordinator restarts: nothing is missed, because each
// reconnection asks from the step after the last one seen. Ends with OK when a terminal state was
// seen. kUnavailable after `patience` without an event.
Status FollowJob(JobClient& client, const std::string& job_id, absl::Duration patience,
                 const std::function<void(const v1::JobEvent&)>& on_event,
                 const std::function<void(const Status&)>& on_disconnect);

}  // namespace rollcall
