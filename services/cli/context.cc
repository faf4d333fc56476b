#include "services/cli/context.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include <sys/ioctl.h>

#include "services/cli/cluster_state.h"

namespace rollcall {

std::string Context::CoordinatorAddress() const {
  if (!flags.coordinator.empty()) return flags.coordinator;
  const StatusOr<ClusterState> state = LoadClusterState(flags.state_dir);
  if (state.ok() && !state->coordinator.empty()) return state->coordinator;
  return "127.0.0.1:7700";
}

StatusOr<JobClient> Context::Connect() const {
  const StatusOr<ClusterState> state = LoadClusterState(flags.state_dir);
  const bool is_supervised = state.ok() && state->coordinator == CoordinatorAddress() &&
                             IsAlive(state->supervisor_pid, state->supervisor_start_ticks);
  return JobClient::Connect(
      CoordinatorAddress(), flags.tls,
      is_supervised ? JobClient::Patience::kSupervised : JobClient::Patience::kShort);
}

std::string DefaultStateDir() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): read once, before there are threads
  const char* state_home = std::getenv("XDG_STATE_HOME");
  if (state_home != nullptr && state_home[0] == '/') return std::string(state_home) + "/rollcall";
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') return std::string(home) + "/.local/state/rollcall";
  return "/tmp/rollcall-" + std::to_string(getuid());
}

TerminalStyle DetectStyle(bool* is_terminal) {
  TerminalStyle style;
  *is_terminal = isatty(STDOUT_FILENO) == 1;
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  const char* no_color = std::getenv("NO_COLOR");
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  const char* term = std::getenv("TERM");
  const bool is_dumb = term != nullptr && std::string_view(term) == "dumb";
  style.color = *is_terminal && !is_dumb && (no_color == nullptr || no_color[0] == '\0');
  if (is_dumb) *is_terminal = false;
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
    style.width = std::clamp<int>(size.ws_col, 20, 400);
    style.height = std::clamp<int>(size.ws_row, 6, 400);
  } else {
    // Files and pipes have no width.
    style.width = *is_terminal ? 80 : 10'000;
  }
  return style;
}

void Print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    // Nobody reads on; what went wrong has no other place to be told.
    std::_Exit(1);
  }
}

void PrintLine(const std::string& line) { Print(line + "\n"); }

void PrintLines(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  Print(text);
}

}  // namespace rollcall
