#include <unistd.h>

#include <filesystem>
#include <iostream>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "services/cli/context.h"
#include "services/cli/exit_code.h"
#include "services/cli/verbs.h"
#include "services/common/config/nearest_key.h"

namespace rollcall {
namespace {

void AddGlobalFlags(CLI::App& app, GlobalFlags* flags) {
  app.add_option("--coordinator", flags->coordinator,
                 "host:port of the coordinator [that of the local cluster]");
  app.add_option("--state-dir", flags->state_dir,
                 "Folder of the local cluster [$XDG_STATE_HOME/rollcall or "
                 "~/.local/state/rollcall]");
  app.add_flag("--json", flags->json, "Write JSON, for scripts");
  app.add_option("--tls-ca", flags->tls.ca_file, "PEM file of the authority that signs peers");
  app.add_option("--tls-cert", flags->tls.certificate_file, "PEM file of our certificate");
  app.add_option("--tls-key", flags->tls.key_file, "PEM file of our key");
}

std::string ProgramDirectory() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "." : self.parent_path().string();
}

int Fail(const Context& context, const Status& status) {
  std::cerr << ErrorText(status) << std::flush;
  if (context.flags.json) {
    const nlohmann::ordered_json json = {
        {"error", {{"code", CodeName(status)}, {"message", Message(status)}}}};
    PrintLine(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  }
  return ExitCodeOf(status);
}

// What was wrong with the command line, and the verb that was meant if there was none.
Status UsageError(const CLI::App& app, const CLI::ParseError& error) {
  std::vector<std::string> verbs;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    verbs.push_back(verb->get_name());
  }
  if (app.get_subcommands().empty()) {
    for (const std::string& word : app.remaining()) {
      if (word.empty() || word[0] == '-') continue;
      const std::string nearest = NearestWord(word, verbs);
      return InvalidArgument(
          "'" + word + "' is no verb\n" +
          (nearest.empty() ? "`rollcall --help` lists them" : "did you mean '" + nearest + "'?"));
    }
  }
  return InvalidArgument(std::string(error.what()) +
                         "\n`rollcall --help` and `rollcall VERB --help` list what there is");
}

int Main(int argc, char** argv) {
  Context context;
  context.program_dir = ProgramDirectory();
  context.style = DetectStyle(&context.is_terminal);

  CLI::App app("rollcall: train language models by reinforcement learning and preferences.",
               "rollcall");
  app.footer(kExitCodesHelp);
  app.require_subcommand(1);
  app.fallthrough();
  AddGlobalFlags(app, &context.flags);
  AddUp(app, context);
  AddDown(app, context);
  AddCheck(app, context);
  AddPlan(app, context);
  AddSubmit(app, context);
  AddList(app, context);
  AddStatus(app, context);
  AddWatch(app, context);
  AddLogs(app, context);
  AddInspect(app, context);
  AddControl(app, context);
  AddConvert(app, context);
  AddExport(app, context);
  AddInitModel(app, context);
  AddServe(app, context);
  AddSchema(app, context);
  AddVersion(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return Fail(context, UsageError(app, error));
  }
  if (context.flags.state_dir.empty()) context.flags.state_dir = DefaultStateDir();
  std::error_code error;
  context.flags.state_dir =
      std::filesystem::absolute(context.flags.state_dir, error).lexically_normal().string();
  const Status status = GuardExceptions("internal error", context.action);
  return status.ok() ? kExitOk : Fail(context, status);
}

}  // namespace
}  // namespace rollcall

int main(int argc, char** argv) { return rollcall::Main(argc, argv); }
