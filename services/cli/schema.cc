#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "services/cli/verbs.h"
#include "services/common/config/job_file.h"

namespace rollcall {

void AddSchema(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand(
      "schema", "Print every key of a job file with its default, range and meaning");
  verb->callback([&context] {
    context.action = [&context] {
      if (context.flags.json) {
        PrintLine(nlohmann::json{{"schema", JobSchemaText()}}.dump());
      } else {
        Print(JobSchemaText());
      }
      return OkStatus();
    };
  });
}

}  // namespace rollcall
