#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "absl/time/clock.h"
#include "services/cli/proto_json.h"
#include "services/cli/render/table.h"
#include "services/cli/render/watch_view.h"
#include "services/cli/verbs.h"

namespace rollcall {
namespace {

std::string AgeText(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0) return "";
  return HumanSeconds(std::max<double>(
             0, absl::ToDoubleSeconds(absl::Now() - absl::FromUnixSeconds(time.seconds())))) +
         " ago";
}

Status List(const Context& context) {
  ROLLCALL_ASSIGN_OR_RETURN(JobClient client, context.Connect());
  ROLLCALL_ASSIGN_OR_RETURN(const v1::ListJobsResponse response, client.List());
  if (context.flags.json) {
    PrintLine(JsonText(ToJson(response)));
    return OkStatus();
  }
  if (response.jobs().empty()) {
    PrintLine("no jobs; `rollcall submit job.yaml` makes one");
    return OkStatus();
  }
  Table table({{.title = "JOB"},
               {.title = "STATE"},
               {.title = "STEP", .align = Align::kRight},
               {.title = "LEFT", .align = Align::kRight},
               {.title = "SUBMITTED", .align = Align::kRight},
               {.title = "REASON", .flexible = true}});
  for (const v1::JobStatus& job : response.jobs()) {
    table.AddRow(
        {job.job_id(), Paint(context.style, StateInk(job.state()), StateText(job.state())),
         fmt::format("{}/{}", job.step(), job.total_steps()),
         job.has_seconds_left() && !IsTerminal(job.state()) ? HumanSeconds(job.seconds_left()) : "",
         AgeText(job.submitted_at()), job.state_reason()});
  }
  PrintLines(table.Render(context.style));
  return OkStatus();
}

}  // namespace

void AddList(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand("list", "List all jobs");
  verb->callback([&context] { context.action = [&context] { return List(context); }; });
}

}  // namespace rollcall
