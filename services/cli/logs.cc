#include <algorithm>
#include <filesystem>
#include <map>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "absl/time/clock.h"
#include "services/cli/log_tail.h"
#include "services/cli/proto_json.h"
#include "services/cli/verbs.h"

namespace rollcall {
namespace {

struct LogsFlags {
  std::string process;
  int num_lines = 50;
  bool follow = false;
};

// Names of the processes that have a log: "coordinator", "rollout-0", "supervisor".
std::vector<std::string> LogNames(const std::string& log_dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(log_dir, error)) {
    // Rotated files are rollout-0.1.log; process names have no dot.
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() == ".log" && name.find('.') == std::string::npos) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

StatusOr<std::vector<std::string>> ChosenNames(const Context& context, const std::string& process) {
  const std::vector<std::string> names = LogNames(context.flags.state_dir + "/logs");
  if (names.empty()) {
    return NotFound("no logs in " + context.flags.state_dir +
                    "/logs\n`rollcall up` makes them; name another folder with --state-dir");
  }
  if (process.empty()) return names;
  std::vector<std::string> chosen;
  std::string all;
  for (const std::string& name : names) {
    all += (all.empty() ? "" : ", ") + name;
    // "rollout" means all of them.
    if (name == process || name.rfind(process + "-", 0) == 0) chosen.push_back(name);
  }
  if (chosen.empty()) return NotFound("no process '" + process + "'\nthere are logs of " + all);
  return chosen;
}

void PrintLog(const Context& context, const std::string& name, const std::string& line) {
  if (context.flags.json) {
    PrintLine(JsonText({{"process", name}, {"line", line}}));
  } else {
    PrintLine(OneLine(line));
  }
}

Status Logs(const Context& context, const LogsFlags& flags) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            ChosenNames(context, flags.process));
  const auto path_of = [&](const std::string& name) {
    return context.flags.state_dir + "/logs/" + name + ".log";
  };
  std::vector<std::pair<std::string, LineFollower>> followers;
  // Lines begin with their time, so that sorting them puts several logs together.
  std::vector<std::pair<std::string, std::string>> lines;
  for (const std::string& name : names) {
    if (flags.follow) followers.emplace_back(name, LineFollower(path_of(name)));
    ROLLCALL_ASSIGN_OR_RETURN(std::vector<std::string> tail,
                              TailLines(path_of(name), flags.num_lines));
    for (std::string& line : tail) lines.emplace_back(std::move(line), name);
  }
  if (names.size() > 1) std::stable_sort(lines.begin(), lines.end());
  if (lines.size() > static_cast<size_t>(flags.num_lines)) {
    lines.erase(lines.begin(), lines.end() - flags.num_lines);
  }
  for (const auto& [line, name] : lines) PrintLog(context, name, line);
  // Until the user ends it.
  while (flags.follow) {
    absl::SleepFor(absl::Milliseconds(200));
    for (auto& [name, follower] : followers) {
      for (const std::string& line : follower.Poll()) PrintLog(context, name, line);
    }
  }
  return OkStatus();
}

}  // namespace

void AddLogs(CLI::App& app, Context& context) {
  auto flags = std::make_shared<LogsFlags>();
  CLI::App* verb = app.add_subcommand("logs", "Show the logs of the local cluster");
  verb->add_option("PROCESS", flags->process,
                   "e.g. coordinator, rollout-0, or rollout for all of them [all processes]");
  verb->add_option("--lines,-n", flags->num_lines, "Number of last lines shown")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->add_flag("--follow,-f", flags->follow, "Go on with new lines as they come");
  verb->callback(
      [&context, flags] { context.action = [&context, flags] { return Logs(context, *flags); }; });
}

}  // namespace rollcall
