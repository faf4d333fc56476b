#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "services/cli/verbs.h"

namespace rollcall {

void AddVersion(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand("version", "Print the version of this program");
  verb->callback([&context] {
    context.action = [&context] {
      if (context.flags.json) {
        PrintLine(nlohmann::json{{"version", ROLLCALL_VERSION}}.dump());
      } else {
        PrintLine("rollcall " ROLLCALL_VERSION);
      }
      return OkStatus();
    };
  });
}

}  // namespace rollcall
