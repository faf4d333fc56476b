#include <filesystem>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "services/cli/job_inputs.h"
#include "services/cli/job_plan.h"
#include "services/cli/plan.h"
#include "services/cli/proto_json.h"
#include "services/cli/verbs.h"
#include "services/common/data/data_files.h"

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
  const std::string heads =
      model.info.has_output_projection
          ? (model.info.has_value_head ? "language model and value" : "language model")
          : "value";
  findings->lines.push_back(
      fmt::format("model: {}, {} parameters, {} {} in {} file{}, head: {}", config.architecture,
                  HumanCount(static_cast<double>(model.info.num_parameters)),
                  HumanBytes(static_cast<double>(model.info.size_bytes)),
                  std::string(DTypeName(model.info.dtype)), model.info.num_files,
                  model.info.num_files == 1 ? "" : "s", heads));
  findings->lines.push_back(
      fmt::format("  {} layers, hidden {}, {} heads ({} key-value), {} positions, vocabulary {}",
                  config.num_layers, config.hidden_size, config.num_heads, config.num_kv_heads,
                  config.max_positions, config.vocab_size));
  const bool is_without = model.chat_template.code() == StatusCode::kNotFound;
  findings->lines.push_back(fmt::format(
      "  tokenizer {} with {} ids, {}", OneLine(model.tokenizer_kind), model.tokenizer_size,
      model.chat_template.ok() ? "a chat template"
      : is_without
          ? "no chat template"
          : "a chat template that cannot be used: " + OneLine(Message(model.chat_template))));
  findings->json["model"] = {{"architecture", config.architecture},
                             {"num_parameters", model.info.num_parameters},
                             {"size_bytes", model.info.size_bytes},
                             {"dtype", std::string(DTypeName(model.info.dtype))},
                             {"num_files", model.info.num_files},
                             {"max_positions", config.max_positions},
                             {"vocab_size", config.vocab_size},
                             {"tokenizer_kind", model.tokenizer_kind},
                             {"tokenizer_size", model.tokenizer_size},
                             {"has_chat_template", model.chat_template.ok()},
                             {"has_language_model_head", model.info.has_output_projection},
                             {"has_value_head", model.info.has_value_head}};
}

std::string TypesText(const ColumnReport& column) {
  std::string text;
  for (const std::string& type : column.types) text += (text.empty() ? "" : " or ") + type;
  return text.empty() ? "null" : text;
}

std::string LengthText(const LengthReport& length) {
  return fmt::format("median {}, 90 % {}, 99 % {}, longest {} tokens", length.median, length.p90,
                     length.p99, length.longest);
}

Json LengthJson(const std::optional<LengthReport>& length) {
  if (!length.has_value()) return nullptr;
  return {{"median", length->median},
          {"p90", length->p90},
          {"p99", length->p99},
          {"longest", length->longest}};
}

void Describe(const std::string& title, const DataReport& data, Findings* findings) {
  constexpr int kMaxExampleWidth = 160;
  std::string files = data.files.size() == 1 ? "" : fmt::format(" in {} files", data.files.size());
  findings->lines.push_back(fmt::format("{}: {} rows, {}{}", title, data.num_rows,
                                        HumanBytes(static_cast<double>(data.size_bytes)), files));
  Json columns = Json::object();
  for (const auto& [name, column] : data.columns) {
    std::string line = "  column " + OneLine(name) + ": " + TypesText(column);
    if (column.num_rows != data.num_rows) line += fmt::format(" (in {} rows)", column.num_rows);
    findings->lines.push_back(std::move(line));
    columns[name] = {{"num_rows", column.num_rows}, {"types", column.types}};
  }
  findings->lines.push_back("  first row: " + Truncate(OneLine(data.example), kMaxExampleWidth));
  if (data.prompt_tokens.has_value()) {
    findings->lines.push_back("  prompts: " + LengthText(*data.prompt_tokens));
  }
  if (data.completion_tokens.has_value()) {
    findings->lines.push_back("  completions: " + LengthText(*data.completion_tokens));
  }
  Json kinds = Json::array();
  for (const ExampleKind kind : data.kinds) kinds.push_back(ExampleKindName(kind));
  Json refused = Json::object();
  for (const auto& [kind, why] : data.refused) refused[std::string(ExampleKindName(kind))] = why;
  findings->json[title] = {{"files", data.files},
                           {"num_rows", data.num_rows},
                           {"size_bytes", data.size_bytes},
                           {"columns", std::move(columns)},
                           {"kinds", std::move(kinds)},
                           {"refused", std::move(refused)},
                           {"prompt_tokens", LengthJson(data.prompt_tokens)},
                           {"completion_tokens", LengthJson(data.completion_tokens)}};
}

StatusOr<Findings> CheckModel(const std::string& path) {
  ROLLCALL_ASSIGN_OR_RETURN(const ModelReport model, InspectModel(path));
  Findings findings;
  findings.json["kind"] = "model";
  Describe(model, &findings);
  findings.lines.push_back("  it will load");
  return findings;
}

StatusOr<Findings> CheckData(const std::string& path, const std::string& model_path) {
  DataInspection inspection;
  const std::string all_splits;
  ROLLCALL_ASSIGN_OR_RETURN(inspection.files, FindDataFiles({&path, 1}, all_splits));
  ModelReport model;
  std::optional<ExampleEncoding> encoding;
  if (!model_path.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(model, InspectModel(model_path));
    encoding.emplace(EncodingOf(model));
    inspection.encoding = &*encoding;
  }
  ROLLCALL_ASSIGN_OR_RETURN(const DataReport data, InspectData(inspection));
  Findings findings;
  findings.json["kind"] = "data";
  Describe("data", data, &findings);
  std::string kinds;
  for (const ExampleKind kind : data.kinds) {
    kinds += (kinds.empty() ? "" : " or ") + std::string(ExampleKindName(kind));
  }
  for (const auto& [kind, why] : data.refused) {
    findings.lines.push_back(
        fmt::format("  it will not load as data.kind {}: {}", ExampleKindName(kind), OneLine(why)));
  }
  if (!kinds.empty()) {
    findings.lines.push_back("  it will load as data.kind " + kinds);
  } else if (data.refused.empty()) {
    findings.lines.push_back(
        "  it reads, but its columns say no kind: name them in the job file (data.columns)");
  }
  return findings;
}

// A directory without a config.json that holds data files.
bool IsDataDirectory(const std::string& path) {
  std::error_code error;
  if (std::filesystem::exists(path + "/config.json", error)) return false;
  const std::string all_splits;
  const Status found = FindDataFiles({&path, 1}, all_splits).status();
  return found.code() != StatusCode::kNotFound;
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
  const std::optional<DataReport>& evaluation = inputs->evaluation;
  if (evaluation.has_value()) Describe("evaluation", *evaluation, &findings);
  for (std::string& line : PlanLines(spec, PlanJob(spec, inputs->model.info.config))) {
    findings.lines.push_back(std::move(line));
  }
  findings.lines.push_back("it will run");
  return findings;
}

StatusOr<Findings> CheckPath(const std::string& path, const std::string& model_path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return NotFound(path +
                    ": no such file or directory\ngive a job file (.yaml), a model "
                    "directory or a data file (.jsonl, .parquet)");
  }
  if (std::filesystem::is_directory(status)) {
    if (!std::filesystem::exists(path + "/config.json", error) &&
        std::filesystem::exists(path + "/adapter_config.json", error)) {
      return InvalidArgument(path +
                             ": a PEFT adapter, no model\nname it as model.adapter of a job, or "
                             "merge it: rollcall convert MODEL DEST --adapter " +
                             path);
    }
    return IsDataDirectory(path) ? CheckData(path, model_path) : CheckModel(path);
  }
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".yaml" || extension == ".yml") return CheckJob(path);
  if (extension == ".jsonl" || extension == ".json" || extension == ".ndjson" ||
      extension == ".parquet") {
    return CheckData(path, model_path);
  }
  return InvalidArgument(path +
                         ": cannot tell what this is\ngive a job file (.yaml), a model "
                         "directory or a data file (.jsonl, .parquet)");
}

Status Check(const Context& context, const std::string& path, const std::string& model_path) {
  ROLLCALL_ASSIGN_OR_RETURN(const Findings findings, CheckPath(path, model_path));
  if (context.flags.json) {
    PrintLine(JsonText(findings.json));
  } else {
    PrintLines(findings.lines);
  }
  return OkStatus();
}

}  // namespace

void AddCheck(CLI::App& app, Context& context) {
  struct Flags {
    std::string path;
    std::string model;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand(
      "check", "Say what a job file, model directory or data file is, and whether it will load");
  verb->add_option("PATH", flags->path, "Job file, model directory, JSONL or Parquet file")
      ->required();
  verb->add_option("--model", flags->model,
                   "Model directory whose tokenizer counts the tokens of a data file");
  verb->callback([&context, flags] {
    context.action = [&context, flags] { return Check(context, flags->path, flags->model); };
  });
}

}  // namespace rollcall
