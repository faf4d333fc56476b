#include <CLI/CLI.hpp>

#include "services/cli/proto_json.h"
#include "services/cli/render/sample_view.h"
#include "services/cli/verbs.h"

namespace rollcall {
namespace {

struct InspectFlags {
  std::string job;
  int64_t step = -1;
  int64_t evaluated_version = -1;
  int64_t prompt = -1;
  int limit = 20;
};

Status Inspect(const Context& context, const InspectFlags& flags) {
  ROLLCALL_ASSIGN_OR_RETURN(JobClient client, context.Connect());
  v1::InspectSamplesRequest request;
  ROLLCALL_ASSIGN_OR_RETURN(*request.mutable_job_id(), client.ResolveJob(flags.job));
  if (flags.step >= 0) request.set_step(flags.step);
  if (flags.evaluated_version >= 0) request.set_evaluated_version(flags.evaluated_version);
  if (flags.prompt >= 0) request.set_prompt_id(flags.prompt);
  request.set_limit(flags.limit);
  ROLLCALL_ASSIGN_OR_RETURN(const v1::InspectSamplesResponse response, client.Inspect(request));
  if (context.flags.json) {
    PrintLine(JsonText(ToJson(response)));
    return OkStatus();
  }
  if (response.samples().empty()) {
    PrintLine("no such samples; `rollcall status " + request.job_id() +
              "` says how far the job is");
    return OkStatus();
  }
  bool is_first = true;
  for (const v1::SampleView& sample : response.samples()) {
    if (!is_first) PrintLine("");
    is_first = false;
    PrintLines(SampleLines(sample, context.style));
  }
  return OkStatus();
}

}  // namespace

void AddInspect(CLI::App& app, Context& context) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* verb = app.add_subcommand(
      "inspect", "Show samples: tokens, log-probabilities, policy versions, scores, failures");
  verb->add_option("JOB", flags->job, "Id, unique prefix of it, name, or 'last'")->required();
  auto* step = verb->add_option("--step", flags->step, "Samples that this step trained on")
                   ->check(CLI::NonNegativeNumber);
  verb->add_option("--evaluated-version", flags->evaluated_version,
                   "Samples of the evaluation of this policy version")
      ->check(CLI::NonNegativeNumber)
      ->excludes(step);
  verb->add_option("--prompt", flags->prompt, "Samples of this row only")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--limit", flags->limit, "Most samples shown")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->callback([&context, flags] {
    context.action = [&context, flags] { return Inspect(context, *flags); };
  });
}

}  // namespace rollcall
