// What every verb is given: global flags, where output goes, and how to reach the cluster.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/cli/job_client.h"
#include "services/cli/render/text.h"
#include "services/common/rpc/options.h"

namespace CLI {
class App;
}

namespace rollcall {

struct GlobalFlags {
  std::string coordinator;  // --coordinator, empty: that of the local cluster
  std::string state_dir;    // --state-dir, absolute after Resolve
  bool json = false;        // --json
  TlsOptions tls;           // --tls-ca, --tls-cert, --tls-key
};

struct Context {
  GlobalFlags flags;
  TerminalStyle style;       // of standard output
  bool is_terminal = false;  // standard output is one
  std::string program_dir;   // folder of this binary, where the daemons are
  // Set by the verb that the command line names; runs after all flags are read.
  std::function<Status()> action;

  // host:port of --coordinator, of the running local cluster, or the default one.
  std::string CoordinatorAddress() const;
  StatusOr<JobClient> Connect() const;
};

// $XDG_STATE_HOME/rollcall or ~/.local/state/rollcall.
std::string DefaultStateDir();

// Size and abilities of the terminal at standard output.
TerminalStyle DetectStyle(bool* is_terminal);

// Standard output, flushed. A closed pipe ends the program quietly.
void Print(const std::string& text);
void PrintLine(const std::string& line);
void PrintLines(const std::vector<std::string>& lines);

}  // namespace rollcall
