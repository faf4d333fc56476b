#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "services/cli/proto_json.h"
#include "services/cli/render/bar.h"
#include "services/cli/render/table.h"
#include "services/cli/render/watch_view.h"
#include "services/cli/verbs.h"

namespace rollcall {
namespace {

std::string RoleText(v1::ProcessRole role) {
  switch (role) {
    case v1::PROCESS_ROLE_COORDINATOR:
      return "coordinator";
    case v1::PROCESS_ROLE_ROLLOUT:
      return "rollout";
    case v1::PROCESS_ROLE_REWARD:
      return "reward";
    case v1::PROCESS_ROLE_LEARNER:
      return "learner";
    default:
      return "unknown";
  }
}

void PrintJob(const Context& context, const v1::JobStatus& status) {
  const TerminalStyle& style = context.style;
  WatchModel model;
  v1::JobEvent event;
  *event.mutable_status() = status;
  model.Apply(event);
  std::vector<std::string> lines = WatchScreen(model, {style.width, 6, style.color});
  lines.push_back("run directory  " + OneLine(status.run_dir()));
  const v1::SampleCounts& samples = status.samples();
  lines.push_back(fmt::format(
      "samples  leases {}, generated {}, scored {}, consumed {}, failed {}, expired {}, duplicates "
      "{}, leases expired {}",
      samples.leases(), samples.generated(), samples.scored(), samples.consumed(), samples.failed(),
      samples.expired(), samples.duplicates(), samples.leases_expired()));
  lines.push_back(fmt::format("policy version {}, {} optimizer updates, learner group epoch {}",
                              status.policy_version(), status.optimizer_updates(), status.epoch()));
  for (const v1::EvaluationResult& evaluation : status.evaluations()) {
    lines.push_back(EvaluationLine(evaluation));
  }
  if (!status.stages().empty()) {
    Table stages({{.title = "STAGE"},
                  {.title = "BUSY", .align = Align::kRight},
                  {.title = "IDLE", .align = Align::kRight},
                  {.title = ""}});
    for (const v1::StageTime& stage : status.stages()) {
      const double total = stage.busy_seconds() + stage.idle_seconds();
      stages.AddRow({stage.stage(), HumanSeconds(stage.busy_seconds()),
                     HumanSeconds(stage.idle_seconds()),
                     ProgressBar(total > 0 ? stage.busy_seconds() / total : 0, 20)});
    }
    for (std::string& line : stages.Render(style)) lines.push_back(std::move(line));
  }
  if (!status.metrics().empty()) {
    Table metrics({{.title = "METRIC"}, {.title = "LAST STEP", .align = Align::kRight}});
    const std::map<std::string, double> sorted(status.metrics().begin(), status.metrics().end());
    for (const auto& [name, value] : sorted) metrics.AddRow({name, HumanNumber(value)});
    for (std::string& line : metrics.Render(style)) lines.push_back(std::move(line));
  }
  PrintLines(lines);
}

Status ClusterStatus(const Context& context, JobClient& client) {
  ROLLCALL_ASSIGN_OR_RETURN(const v1::GetClusterResponse cluster, client.Cluster());
  if (context.flags.json) {
    PrintLine(JsonText(ToJson(cluster)));
    return OkStatus();
  }
  PrintLine("coordinator " + client.address() + ", version " + OneLine(cluster.version()));
  Table table({{.title = "PROCESS"},
               {.title = "ROLE"},
               {.title = "HOST"},
               {.title = "PID", .align = Align::kRight},
               {.title = "PHASE"},
               {.title = "JOB"},
               {.title = "HEARD", .align = Align::kRight},
               {.title = "METRICS", .flexible = true}});
  for (const v1::ProcessInfo& process : cluster.processes()) {
    const double heard = static_cast<double>(process.since_heartbeat().seconds()) +
                         process.since_heartbeat().nanos() * 1e-9;
    table.AddRow({process.name(), RoleText(process.role()), process.host(),
                  std::to_string(process.pid()), process.phase(), process.job_id(),
                  HumanSeconds(heard) + " ago", process.metrics_address()});
  }
  PrintLines(table.Render(context.style));
  return OkStatus();
}

Status JobOrClusterStatus(const Context& context, const std::string& job) {
  ROLLCALL_ASSIGN_OR_RETURN(JobClient client, context.Connect());
  if (job.empty()) return ClusterStatus(context, client);
  ROLLCALL_ASSIGN_OR_RETURN(const std::string job_id, client.ResolveJob(job));
  ROLLCALL_ASSIGN_OR_RETURN(const v1::GetJobResponse response, client.Get(job_id));
  if (context.flags.json) {
    PrintLine(JsonText(ToJson(response.status())));
  } else {
    PrintJob(context, response.status());
  }
  return OkStatus();
}

}  // namespace

void AddStatus(CLI::App& app, Context& context) {
  auto job = std::make_shared<std::string>();
  CLI::App* verb =
      app.add_subcommand("status", "Show a job, or the processes of the cluster without one");
  verb->add_option("JOB", *job, "Id, unique prefix of it, name, or 'last'");
  verb->callback([&context, job] {
    context.action = [&context, job] { return JobOrClusterStatus(context, *job); };
  });
}

}  // namespace rollcall
