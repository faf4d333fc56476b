#include "services/cli/plan.h"

#include <algorithm>

#include <CLI/CLI.hpp>

#include "services/cli/job_plan.h"
#include "services/cli/proto_json.h"
#include "services/cli/verbs.h"
#include "services/common/config/job_file.h"
#include "services/common/storage/files.h"

namespace rollcall {
namespace {

using Json = nlohmann::ordered_json;

Json PlanJson(const v1::JobSpec& spec, const JobPlan& plan) {
  const BatchPlan& batch = plan.batch;
  Json json = {{"spec", ToJson(spec)},
               {"batch",
                {{"prompts_per_step", batch.prompts_per_step},
                 {"samples_per_prompt", batch.samples_per_prompt},
                 {"sequences_per_step", batch.sequences_per_step},
                 {"max_tokens_per_step", batch.max_tokens_per_step},
                 {"updates_per_step", batch.updates_per_step},
                 {"total_steps", batch.total_steps},
                 {"total_updates", batch.total_updates},
                 {"total_sequences", batch.total_sequences}}},
               {"memory", nullptr},
               {"notes", plan.notes}};
  if (plan.memory.has_value()) {
    const MemoryPlan& memory = *plan.memory;
    json["memory"] = {{"num_parameters", memory.num_parameters},
                      {"parameters_bytes", memory.parameters},
                      {"gradients_bytes", memory.gradients},
                      {"optimizer_bytes", memory.optimizer},
                      {"reference_bytes", memory.reference},
                      {"critic_bytes", memory.critic},
                      {"activations_bytes", memory.activations},
                      {"learner_rank_bytes", memory.learner_rank},
                      {"worker_parameters_bytes", memory.worker_parameters},
                      {"kv_cache_bytes", memory.kv_cache},
                      {"kv_bytes_per_token", memory.kv_bytes_per_token},
                      {"rollout_worker_bytes", memory.rollout_worker}};
  }
  return json;
}

}  // namespace

StatusOr<v1::JobSpec> LoadJob(const std::string& path, const std::vector<std::string>& overrides) {
  StatusOr<v1::JobSpec> spec = LoadJobFile(path, overrides);
  if (spec.ok() || spec.status().code() != StatusCode::kInvalidArgument) return spec;
  const std::string message = Message(spec.status());
  const auto num_more = std::count(message.begin(), message.end(), '\n');
  if (num_more == 0) return spec;
  return InvalidArgument(std::to_string(num_more + 1) + " problems in " + path + "\n" + message);
}

Status PrintPlan(const Context& context, const v1::JobSpec& spec) {
  constexpr uint64_t kMaxConfigBytes = 1 << 20;
  const std::string config_path = spec.model().path() + "/config.json";
  std::optional<ModelConfig> model;
  std::string unreadable;
  if (const StatusOr<std::string> json = ReadFile(config_path, kMaxConfigBytes); json.ok()) {
    const StatusOr<ModelConfig> parsed = ParseModelConfig(*json, config_path);
    if (parsed.ok()) {
      model = *parsed;
    } else {
      unreadable = Message(parsed.status());
    }
  } else {
    unreadable = Message(json.status());
  }
  JobPlan plan = PlanJob(spec, model);
  if (!unreadable.empty()) plan.notes.push_back("model.path: " + unreadable);
  if (context.flags.json) {
    PrintLine(JsonText(PlanJson(spec, plan)));
    return OkStatus();
  }
  PrintLines(PlanLines(spec, plan));
  Print("\n" + JobSpecToYaml(spec));
  return OkStatus();
}

void AddPlan(CLI::App& app, Context& context) {
  struct Flags {
    std::string path;
    std::vector<std::string> overrides;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand(
      "plan", "Print what a job file comes to: batches, memory, every resolved setting");
  verb->add_option("FILE", flags->path, "Job file")->required();
  verb->add_option("--set", flags->overrides, "section.key=value, over the file; repeatable")
      ->type_size(1)
      ->allow_extra_args(false);
  verb->callback([&context, flags] {
    context.action = [&context, flags]() -> Status {
      ROLLCALL_ASSIGN_OR_RETURN(const v1::JobSpec spec, LoadJob(flags->path, flags->overrides));
      return PrintPlan(context, spec);
    };
  });
}

}  // namespace rollcall
