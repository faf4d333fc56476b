#include <filesystem>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "services/cli/copy_directory.h"
#include "services/cli/proto_json.h"
#include "services/cli/render/watch_view.h"
#include "services/cli/verbs.h"

namespace rollcall {
namespace {

struct ExportFlags {
  std::string job;
  std::string destination;
  int64_t step = 0;
};

// Steps of the checkpoints that are there, for the message.
std::string StepsText(const std::string& run_dir) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(run_dir + "/checkpoints", error)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("step_", 0) == 0) steps.push_back(std::atoll(name.c_str() + 5));
  }
  std::sort(steps.begin(), steps.end());
  std::string text;
  for (const int64_t step : steps) text += (text.empty() ? "" : ", ") + std::to_string(step);
  return text.empty() ? "there are none yet" : "there are those of steps " + text;
}

// The folder of a checkpoint that transformers loads: where its config.json lies.
std::string ModelFolder(const std::string& checkpoint) {
  for (const char* inner : {"/policy", "/model", ""}) {
    std::error_code error;
    if (std::filesystem::exists(checkpoint + inner + "/config.json", error)) {
      return checkpoint + inner;
    }
  }
  return "";
}

Status Export(const Context& context, const ExportFlags& flags) {
  ROLLCALL_ASSIGN_OR_RETURN(JobClient client, context.Connect());
  ROLLCALL_ASSIGN_OR_RETURN(const std::string job_id, client.ResolveJob(flags.job));
  ROLLCALL_ASSIGN_OR_RETURN(const v1::GetJobResponse response, client.Get(job_id));
  const std::string& run_dir = response.status().run_dir();
  const std::string checkpoint = flags.step > 0
                                     ? run_dir + "/checkpoints/step_" + std::to_string(flags.step)
                                     : run_dir + "/final";
  const std::string source = ModelFolder(checkpoint);
  if (source.empty()) {
    if (flags.step > 0) {
      return NotFound("job " + job_id + " has no checkpoint of step " + std::to_string(flags.step) +
                      " in " + run_dir + "\n" + StepsText(run_dir));
    }
    return FailedPrecondition("job " + job_id + " is " + StateText(response.status().state()) +
                              " and has no final model in " + run_dir +
                              " yet\ntake a checkpoint with --step: " + StepsText(run_dir));
  }
  ROLLCALL_RETURN_IF_ERROR(CopyDirectoryAtomic(source, flags.destination));
  if (context.flags.json) {
    PrintLine(JsonText({{"job_id", job_id}, {"source", source}, {"path", flags.destination}}));
  } else {
    PrintLine("exported " + source + " to " + flags.destination);
  }
  return OkStatus();
}

}  // namespace

void AddExport(CLI::App& app, Context& context) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* verb =
      app.add_subcommand("export", "Copy the trained model as a Hugging Face directory");
  verb->add_option("JOB", flags->job, "Id, unique prefix of it, name, or 'last'")->required();
  verb->add_option("DEST", flags->destination, "Directory to make; must not exist")->required();
  verb->add_option("--step", flags->step, "Checkpoint of this step [the final model]")
      ->check(CLI::PositiveNumber);
  verb->callback([&context, flags] {
    context.action = [&context, flags] { return Export(context, *flags); };
  });
}

}  // namespace rollcall
