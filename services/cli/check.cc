#include <filesystem>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "services/cli/job_inputs.h"
#include "services/cli/job_plan.h"
#include "services/cli/plan.h"
#include "services/cli/proto_json.h"
#include "services/cli/verbs.h"

namespace rollcall {
namespace {

using Json = nlohmann::ordered_json;

// What was found, for people and for scripts.
struct Findings {
  Json json = Json::object();
  std::vector<std::string> lines;
};

void Describe(const ModelReport& model, Findings* findings) {
  const ModelConfig& config = model.info.config;
  findings->lines.push_back(
      fmt::format("model: {}, {} parameters, {} {} in {} file{}", config.architecture,
                  HumanCount(static_cast<double>(model.info.num_parameters)),
                  HumanBytes(static_cast<double>(model.info.size_bytes)),
                  std::string(DTypeName(model.info.dtype)), model.info.num_files,
                  model.info.num_files == 1 ? "" : "s"));
  findings->lines.push_back(fmt::format(
      "  {} layers, hidden {}, {} heads ({} key-value), {} positions, vocabulary {}, tokenizer {}",
      config.num_layers, config.hidden_size, config.num_heads, config.num_kv_heads,
      config.max_positions, config.vocab_size, model.tokenizer_size));
  findings->json["model"] = {
      {"architecture", config.architecture}, {"num_parameters", model.info.num_parameters},
      {"size_bytes", model.info.size_bytes}, {"dtype", std::string(DTypeName(model.info.dtype))},
      {"num_files", model.info.num_files},   {"max_positions", config.max_positions},
      {"vocab_size", config.vocab_size},     {"tokenizer_size", model.tokenizer_size}};
}

void Describe(const std::string& title, const DataReport& data, Findings* findings) {
  std::string fields;
  for (const auto& [field, count] : data.fields) {
    fields += (fields.empty() ? "" : ", ") + OneLine(field);
    if (count != data.num_rows) fields += fmt::format(" (in {} rows)", count);
  }
  findings->lines.push_back(fmt::format("{}: {} rows, {}, fields {}", title, data.num_rows,
                                        HumanBytes(static_cast<double>(data.size_bytes)), fields));
  findings->json[title] = {{"num_rows", data.num_rows},
                           {"size_bytes", data.size_bytes},
                           {"fields", data.fields},
                           {"kinds", data.kinds}};
}

StatusOr<Findings> CheckModel(const std::string& path) {
  ROLLCALL_ASSIGN_OR_RETURN(const ModelReport model, InspectModel(path));
  Findings findings;
  findings.json["kind"] = "model";
  Describe(model, &findings);
  findings.lines.push_back("  it will load");
  return findings;
}

StatusOr<Findings> CheckData(const std::string& path) {
  ROLLCALL_ASSIGN_OR_RETURN(const DataReport data, InspectData(path, {}));
  Findings findings;
  findings.json["kind"] = "data";
  Describe("data", data, &findings);
  std::string kinds;
  for (const std::string& kind : data.kinds) kinds += (kinds.empty() ? "" : " or ") + kind;
  findings.lines.push_back(
      kinds.empty() ? "  it reads, but no field is named 'prompt' in every row: name the fields in "
                      "the job file (data.prompt_field ...)"
                    : "  it will load as data.kind " + kinds);
  return findings;
}

StatusOr<Findings> CheckJob(const std::string& path) {
  ROLLCALL_ASSIGN_OR_RETURN(const v1::JobSpec spec, LoadJob(path, {}));
  StatusOr<JobInputs> inputs = InspectJobInputs(spec);
  if (!inputs.ok()) return Annotate(inputs.status(), path);
  Findings findings;
  findings.json["kind"] = "job";
  findings.lines.push_back("job: " + spec.run().name());
  Describe(inputs->model, &findings);
  Describe("data", inputs->data, &findings);
  if (inputs->evaluation.has_value()) Describe("evaluation", *inputs->evaluation, &findings);
  for (std::string& line : PlanLines(spec, PlanJob(spec, inputs->model.info.config))) {
    findings.lines.push_back(std::move(line));
  }
  findings.lines.push_back("it will run");
  return findings;
}

StatusOr<Findings> CheckPath(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return NotFound(path +
                    ": no such file or directory\ngive a job file (.yaml), a model "
                    "directory or a data file (.jsonl)");
  }
  if (std::filesystem::is_directory(status)) return CheckModel(path);
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".yaml" || extension == ".yml") return CheckJob(path);
  if (extension == ".jsonl" || extension == ".json" || extension == ".ndjson") {
    return CheckData(path);
  }
  return InvalidArgument(path +
                         ": cannot tell what this is\ngive a job file (.yaml), a model "
                         "directory or a data file (.jsonl)");
}

Status Check(const Context& context, const std::string& path) {
  ROLLCALL_ASSIGN_OR_RETURN(const Findings findings, CheckPath(path));
  if (context.flags.json) {
    PrintLine(JsonText(findings.json));
  } else {
    PrintLines(findings.lines);
  }
  return OkStatus();
}

}  // namespace

void AddCheck(CLI::App& app, Context& context) {
  auto path = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand(
      "check", "Say what a job file, model directory or data file is, and whether it will load");
  verb->add_option("PATH", *path, "Job file, model directory or JSONL file")->required();
  verb->callback(
      [&context, path] { context.action = [&context, path] { return Check(context, *path); }; });
}

}  // namespace rollcall
