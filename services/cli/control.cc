#include <CLI/CLI.hpp>

#include "services/cli/proto_json.h"
#include "services/cli/render/watch_view.h"
#include "services/cli/verbs.h"

namespace rollcall {
namespace {

Status Control(const Context& context, JobClient::Action action, const std::string& job) {
  ROLLCALL_ASSIGN_OR_RETURN(JobClient client, context.Connect());
  ROLLCALL_ASSIGN_OR_RETURN(const std::string job_id, client.ResolveJob(job));
  ROLLCALL_ASSIGN_OR_RETURN(const v1::JobStatus status, client.Control(action, job_id));
  if (context.flags.json) {
    PrintLine(JsonText(ToJson(status)));
  } else {
    PrintLine(job_id + ": " + StateLine(status));
  }
  return OkStatus();
}

void AddOne(CLI::App& app, Context& context, const char* name, const char* help,
            JobClient::Action action) {
  auto job = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand(name, help);
  verb->add_option("JOB", *job, "Id, unique prefix of it, name, or 'last'")->required();
  verb->callback([&context, job, action] {
    context.action = [&context, job, action] { return Control(context, action, *job); };
  });
}

}  // namespace

void AddControl(CLI::App& app, Context& context) {
  AddOne(app, context, "pause", "Stop a job after the step it is in; it keeps its place",
         JobClient::Action::kPause);
  AddOne(app, context, "resume", "Let a paused job go on", JobClient::Action::kResume);
  AddOne(app, context, "cancel", "End a job; what it has written stays",
         JobClient::Action::kCancel);
}

}  // namespace rollcall
