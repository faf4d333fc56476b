#include "services/cli/job_inputs.h"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "services/common/data/jsonl.h"
#include "services/common/text/tokenizer.h"

namespace rollcall {
namespace {

bool AllRowsHave(const DataReport& report, const std::vector<std::string>& fields) {
  for (const std::string& field : fields) {
    const auto found = report.fields.find(field);
    if (found == report.fields.end() || found->second != report.num_rows) return false;
  }
  return true;
}

}  // namespace

StatusOr<ModelReport> InspectModel(const std::string& directory) {
  ModelReport report;
  ROLLCALL_ASSIGN_OR_RETURN(report.info, CheckModelDirectory(directory));
  ROLLCALL_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(directory));
  ROLLCALL_RETURN_IF_ERROR(
      Annotate(CheckTokenizerFits(*tokenizer, report.info.config.vocab_size), directory));
  report.tokenizer_size = tokenizer->vocab_size();
  return report;
}

StatusOr<DataReport> InspectData(const std::string& path,
                                 const std::vector<std::string>& required_fields) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::vector<DataRow> rows, ReadJsonl(path, required_fields));
  DataReport report;
  report.num_rows = static_cast<int64_t>(rows.size());
  std::error_code error;
  report.size_bytes = std::filesystem::file_size(path, error);
  for (const DataRow& row : rows) {
    const auto json = nlohmann::json::parse(row.json, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) continue;
    for (const auto& [field, value] : json.items()) ++report.fields[field];
  }
  if (AllRowsHave(report, {"prompt", "chosen", "rejected"})) report.kinds.push_back("pairs");
  if (AllRowsHave(report, {"prompt", "completion"})) report.kinds.push_back("completions");
  if (AllRowsHave(report, {"prompt"})) report.kinds.push_back("prompts");
  return report;
}

std::vector<std::string> TrainingFields(const v1::DataSpec& data) {
  switch (data.kind()) {
    case v1::DataSpec::COMPLETIONS:
      return {data.prompt_field(), data.completion_field()};
    case v1::DataSpec::PAIRS:
      return {data.prompt_field(), data.chosen_field(), data.rejected_field()};
    default:
      return {data.prompt_field()};
  }
}

std::vector<std::string> EvaluationFields(const v1::DataSpec& data) {
  return {data.prompt_field()};
}

StatusOr<JobInputs> InspectJobInputs(const v1::JobSpec& spec) {
  JobInputs inputs;
  StatusOr<ModelReport> model = InspectModel(spec.model().path());
  if (!model.ok()) return Annotate(model.status(), "model.path");
  inputs.model = std::move(model).value();
  StatusOr<DataReport> data = InspectData(spec.data().path(), TrainingFields(spec.data()));
  if (!data.ok()) return Annotate(data.status(), "data.path");
  inputs.data = std::move(data).value();
  if (inputs.data.num_rows < spec.train().prompts_per_step()) {
    return InvalidArgument("train.prompts_per_step: " +
                           std::to_string(spec.train().prompts_per_step()) + " is more than the " +
                           std::to_string(inputs.data.num_rows) + " rows of " + spec.data().path());
  }
  if (spec.evaluate().has_path()) {
    StatusOr<DataReport> evaluation =
        InspectData(spec.evaluate().path(), EvaluationFields(spec.data()));
    if (!evaluation.ok()) return Annotate(evaluation.status(), "evaluate.path");
    inputs.evaluation = std::move(evaluation).value();
  }
  return inputs;
}

}  // namespace rollcall
