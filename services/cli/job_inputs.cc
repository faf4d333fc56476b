#include "services/cli/job_inputs.h"

#include <nlohmann/json.hpp>

#include "services/common/data/job_data.h"
#include "services/common/data/template_renderer.h"
#include "services/common/storage/files.h"
#include "services/model/adapter/lora_adapter.h"

namespace rollcall {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxTokenizerBytes = uint64_t{256} << 20;

// What cannot be read is null; the loaders say what is wrong with it.
Json ReadJson(const std::string& path) {
  const StatusOr<std::string> text = ReadFile(path, kMaxTokenizerBytes);
  return text.ok() ? Json::parse(*text, nullptr, /*allow_exceptions=*/false) : Json();
}

std::string TokenizerKind(const std::string& directory) {
  const Json tokenizer = ReadJson(directory + "/tokenizer.json");
  if (!tokenizer.is_object()) return "";
  const auto model = tokenizer.find("model");
  if (model == tokenizer.end() || !model->is_object()) return "";
  const auto type = model->find("type");
  return type != model->end() && type->is_string() ? type->get<std::string>() : "BPE";
}

}  // namespace

StatusOr<ModelReport> InspectModel(const std::string& directory) {
  ModelReport report;
  ROLLCALL_ASSIGN_OR_RETURN(report.info, CheckModelDirectory(directory));
  ROLLCALL_ASSIGN_OR_RETURN(report.tokenizer, LoadTokenizer(directory));
  ROLLCALL_RETURN_IF_ERROR(
      Annotate(CheckTokenizerFits(*report.tokenizer, report.info.config.vocab_size), directory));
  report.tokenizer_size = report.tokenizer->vocab_size();
  report.tokenizer_kind = TokenizerKind(directory);
  auto renderer = LoadConversationRenderer(directory);
  if (renderer.ok()) {
    report.renderer = *std::move(renderer);
  } else {
    report.chat_template = renderer.status();
  }
  return report;
}

ExampleEncoding EncodingOf(const ModelReport& model) {
  ExampleEncoding encoding{.tokenizer = *model.tokenizer};
  encoding.renderer = model.renderer.get();
  encoding.why_no_renderer = Message(model.chat_template);
  const auto& ends = model.info.config.eos_token_ids;
  if (!ends.empty()) encoding.end_token = ends.front();
  return encoding;
}

StatusOr<JobInputs> InspectJobInputs(const v1::JobSpec& spec) {
  JobInputs inputs;
  StatusOr<ModelReport> model = InspectModel(spec.model().path());
  if (!model.ok()) return Annotate(model.status(), "model.path");
  inputs.model = std::move(model).value();
  if (!spec.model().adapter().empty()) {
    const auto adapter =
        ReadAdapter(spec.model().adapter(), inputs.model.info.config, Head::kLanguageModel);
    if (!adapter.ok()) return Annotate(adapter.status(), "model.adapter");
  }
  const ExampleEncoding encoding = EncodingOf(inputs.model);
  DataInspection inspection;
  ROLLCALL_ASSIGN_OR_RETURN(inspection.files, TrainingFiles(spec));
  inspection.kind = KindFromSpec(spec.data().kind());
  inspection.columns = ColumnsFromSpec(spec.data().columns());
  inspection.encoding = &encoding;
  inspection.max_rows = spec.data().max_rows();
  StatusOr<DataReport> data = InspectData(inspection);
  if (!data.ok()) return Annotate(data.status(), "data.path");
  inputs.data = std::move(data).value();
  // A row of ranked completions may make several pairs.
  const bool is_ranked = inspection.kind == ExampleKind::kPairs &&
                         spec.data().ranked_pairs() != v1::DataSpec::BEST_WORST;
  if (!is_ranked && inputs.data.num_rows < spec.train().prompts_per_step()) {
    return InvalidArgument(
        "train.prompts_per_step: " + std::to_string(spec.train().prompts_per_step()) +
        " is more than the " + std::to_string(inputs.data.num_rows) + " rows of " +
        FilesText(inspection.files));
  }
  if (spec.evaluate().has_path()) {
    ROLLCALL_ASSIGN_OR_RETURN(inspection.files, EvaluationFiles(spec));
    inspection.kind = ExampleKind::kPrompts;
    inspection.max_rows = spec.evaluate().max_prompts();
    StatusOr<DataReport> evaluation = InspectData(inspection);
    if (!evaluation.ok()) return Annotate(evaluation.status(), "evaluate.path");
    inputs.evaluation = std::move(evaluation).value();
  }
  return inputs;
}

}  // namespace rollcall
