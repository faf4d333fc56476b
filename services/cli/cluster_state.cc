#include "services/cli/cluster_state.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include <nlohmann/json.hpp>
#include <sys/file.h>

#include "services/base/status/errno_text.h"
#include "services/common/storage/files.h"

namespace rollcall {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxStateBytes = 4 << 20;

// Fields of /proc/PID/stat after the name, which may hold anything: field 3 is the first.
std::vector<std::string> StatFields(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return {};
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return {};
  std::vector<std::string> fields;
  std::string word;
  for (const char c : line.substr(name_end + 1) + " ") {
    if (c != ' ') {
      word += c;
    } else if (!word.empty()) {
      fields.push_back(std::move(word));
      word.clear();
    }
  }
  return fields;
}

}  // namespace

std::string ClusterStatePath(const std::string& state_dir) { return state_dir + "/cluster.json"; }

std::string ClusterStateToJson(const ClusterState& state) {
  Json json = {{"pid", state.supervisor_pid},
               {"start_ticks", state.supervisor_start_ticks},
               {"coordinator", state.coordinator},
               {"processes", Json::array()}};
  for (const ClusterProcess& process : state.processes) {
    json["processes"].push_back({{"name", process.name},
                                 {"role", process.role},
                                 {"pid", process.pid},
                                 {"start_ticks", process.start_ticks},
                                 {"address", process.address},
                                 {"metrics_address", process.metrics_address},
                                 {"state", process.state},
                                 {"restarts", process.restarts},
                                 {"log_file", process.log_file}});
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

StatusOr<ClusterState> ParseClusterState(const std::string& json_text, const std::string& origin) {
  ClusterState state;
  try {
    const Json json = Json::parse(json_text);
    state.supervisor_pid = json.at("pid").get<pid_t>();
    state.supervisor_start_ticks = json.at("start_ticks").get<uint64_t>();
    state.coordinator = json.at("coordinator").get<std::string>();
    for (const Json& item : json.at("processes")) {
      ClusterProcess process;
      process.name = item.at("name").get<std::string>();
      process.role = item.at("role").get<std::string>();
      process.pid = item.at("pid").get<pid_t>();
      process.start_ticks = item.at("start_ticks").get<uint64_t>();
      process.address = item.at("address").get<std::string>();
      process.metrics_address = item.at("metrics_address").get<std::string>();
      process.state = item.at("state").get<std::string>();
      process.restarts = item.at("restarts").get<int>();
      process.log_file = item.at("log_file").get<std::string>();
      state.processes.push_back(std::move(process));
    }
  } catch (const Json::exception& error) {
    return DataLoss(origin + ": not a cluster state: " + error.what() +
                    "\nremove the file when no cluster runs there");
  }
  return state;
}

StatusOr<ClusterState> LoadClusterState(const std::string& state_dir) {
  const std::string path = ClusterStatePath(state_dir);
  ROLLCALL_ASSIGN_OR_RETURN(const std::string json, ReadFile(path, kMaxStateBytes));
  return ParseClusterState(json, path);
}

Status SaveClusterState(const std::string& state_dir, const ClusterState& state) {
  return WriteFileAtomic(ClusterStatePath(state_dir), ClusterStateToJson(state));
}

uint64_t ProcessStartTicks(pid_t pid) {
  constexpr size_t kState = 0;       // field 3
  constexpr size_t kStartTime = 19;  // field 22
  const std::vector<std::string> fields = StatFields(pid);
  if (fields.size() <= kStartTime || fields[kState] == "Z" || fields[kState] == "X") return 0;
  return std::strtoull(fields[kStartTime].c_str(), nullptr, 10);
}

char ProcessStateLetter(pid_t pid) {
  const std::vector<std::string> fields = StatFields(pid);
  return fields.empty() ? '\0' : fields[0][0];
}

bool IsAlive(pid_t pid, uint64_t start_ticks) {
  return pid > 0 && start_ticks != 0 && ProcessStartTicks(pid) == start_ticks;
}

StatusOr<std::unique_ptr<ClusterLock>> ClusterLock::TryAcquire(const std::string& state_dir) {
  const std::string path = state_dir + "/cluster.lock";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    const int error = errno;
    return FailedPrecondition("cannot open " + path + ": " + ErrnoText(error) +
                              "\nname a directory that you may write with --state-dir");
  }
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    close(fd);
    if (error == EWOULDBLOCK) return std::unique_ptr<ClusterLock>();
    return FailedPrecondition("cannot lock " + path + ": " + ErrnoText(error));
  }
  return std::unique_ptr<ClusterLock>(new ClusterLock(fd));
}

ClusterLock::~ClusterLock() { close(fd_); }

}  // namespace rollcall
