#include "services/coordinator/worker/registry.h"

#include <algorithm>

#include "services/common/text/utf8.h"

namespace rollcall::coordinator {
namespace {

// Engines of one worker that are looked at.
constexpr int kMaxLoads = 256;

constexpr size_t kMaxTextBytes = 256;

// Between characters: protobuf sends valid UTF-8 only.
std::string Clip(const std::string& text) { return std::string(TruncateUtf8(text, kMaxTextBytes)); }

}  // namespace

Status Registry::CheckRequest(const v1::RegisterRequest& request) {
  if (request.name().empty() || request.name().size() > kMaxTextBytes) {
    return InvalidArgument("name: 1 to 256 bytes are needed, got " +
                           std::to_string(request.name().size()));
  }
  if (request.role() != v1::PROCESS_ROLE_ROLLOUT && request.role() != v1::PROCESS_ROLE_REWARD &&
      request.role() != v1::PROCESS_ROLE_LEARNER) {
    return InvalidArgument("role: rollout, reward or learner is needed");
  }
  return OkStatus();
}

StatusOr<Worker*> Registry::Register(const v1::RegisterRequest& request, absl::Time now,
                                     std::string* replaced) {
  replaced->clear();
  ROLLCALL_RETURN_IF_ERROR(CheckRequest(request));
  if (const auto known = id_of_name_.find(request.name()); known != id_of_name_.end()) {
    *replaced = known->second;
  } else if (workers_.size() >= options_.max_workers) {
    return ResourceExhausted("the cluster is full: " + std::to_string(workers_.size()) +
                             " processes are registered");
  }
  if (!replaced->empty()) Remove(*replaced);
  Worker worker;
  worker.id = "w" + std::to_string(incarnation_) + "-" + std::to_string(next_++);
  worker.role = request.role();
  worker.name = request.name();
  worker.host = Clip(request.host());
  worker.pid = request.pid();
  worker.address = Clip(request.address());
  worker.metrics_address = Clip(request.metrics_address());
  worker.last_heartbeat = now;
  worker.last_movement = now;
  id_of_name_[worker.name] = worker.id;
  ++num_of_role_[worker.role];
  Worker& stored = workers_[worker.id];
  stored = std::move(worker);
  return &stored;
}

StatusOr<Worker*> Registry::Find(const std::string& worker_id) {
  const auto found = workers_.find(worker_id);
  if (found == workers_.end()) {
    return Aborted("worker '" + Clip(worker_id) + "' is not registered: register again");
  }
  return &found->second;
}

StatusOr<Worker*> Registry::Call(const std::string& worker_id, v1::ProcessRole role,
                                 absl::Time now) {
  ROLLCALL_ASSIGN_OR_RETURN(Worker * worker, Find(worker_id));
  if (worker->role != role) {
    return MakeStatus(StatusCode::kPermissionDenied,
                      "worker '" + worker->name + "' has another role than this call is for");
  }
  // A process that calls is alive, whatever became of its heartbeats.
  worker->last_heartbeat = now;
  worker->last_movement = now;
  return worker;
}

StatusOr<Worker*> Registry::Heartbeat(const v1::HeartbeatRequest& request, absl::Time now) {
  ROLLCALL_ASSIGN_OR_RETURN(Worker * worker, Find(request.worker_id()));
  worker->last_heartbeat = now;
  const std::string phase = Clip(request.phase());
  const std::string job_id = Clip(request.job_id());
  if (phase != worker->phase || request.progress() != worker->progress ||
      job_id != worker->job_id) {
    worker->last_movement = now;
    worker->phase = phase;
    worker->progress = request.progress();
    worker->job_id = job_id;
  }
  const int num_loads = std::min(request.loads_size(), kMaxLoads);
  worker->loads.assign(request.loads().begin(), request.loads().begin() + num_loads);
  worker->is_leaving = request.is_leaving();
  return worker;
}

void Registry::Remove(const std::string& worker_id) {
  const auto found = workers_.find(worker_id);
  if (found == workers_.end()) return;
  --num_of_role_[found->second.role];
  id_of_name_.erase(found->second.name);
  workers_.erase(found);
}

std::vector<std::string> Registry::Silent(absl::Time now) const {
  std::vector<std::pair<std::string, std::string>> silent;
  for (const auto& [id, worker] : workers_) {
    if (now - worker.last_heartbeat > options_.heartbeat_timeout) {
      silent.emplace_back(worker.name, id);
    }
  }
  std::sort(silent.begin(), silent.end());
  std::vector<std::string> ids;
  ids.reserve(silent.size());
  for (auto& [name, id] : silent) ids.push_back(std::move(id));
  return ids;
}

void Registry::Forgive(absl::Duration away) {
  for (auto& [id, worker] : workers_) {
    worker.last_heartbeat += away;
    worker.last_movement += away;
  }
}

size_t Registry::CountRole(v1::ProcessRole role) const {
  const auto found = num_of_role_.find(role);
  return found == num_of_role_.end() ? 0 : found->second;
}

}  // namespace rollcall::coordinator
