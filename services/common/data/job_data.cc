#include "services/common/data/job_data.h"

#include <span>

#include "services/common/data/data_files.h"

namespace rollcall {
namespace {

StatusOr<std::vector<std::string>> Find(std::span<const std::string> paths,
                                        const std::string& split, std::string_view key) {
  StatusOr<std::vector<std::string>> files = FindDataFiles(paths, split);
  if (!files.ok()) return Annotate(files.status(), key);
  return files;
}

}  // namespace

ExampleKind KindFromSpec(v1::DataSpec::Kind kind) {
  switch (kind) {
    case v1::DataSpec::COMPLETIONS:
      return ExampleKind::kCompletions;
    case v1::DataSpec::PAIRS:
      return ExampleKind::kPairs;
    case v1::DataSpec::FEEDBACK:
      return ExampleKind::kFeedback;
    default:
      return ExampleKind::kPrompts;
  }
}

ColumnNames ColumnsFromSpec(const v1::ColumnSpec& columns) {
  return {.prompt = columns.prompt(),
          .completion = columns.completion(),
          .chosen = columns.chosen(),
          .rejected = columns.rejected(),
          .completions = columns.completions(),
          .ranks = columns.ranks(),
          .scores = columns.scores(),
          .label = columns.label(),
          .messages = columns.messages(),
          .text = columns.text(),
          .tools = columns.tools()};
}

StatusOr<std::vector<std::string>> TrainingFiles(const v1::JobSpec& spec) {
  const std::vector<std::string> paths(spec.data().path().begin(), spec.data().path().end());
  return Find(paths, spec.data().split(), "data.path");
}

StatusOr<std::vector<std::string>> EvaluationFiles(const v1::JobSpec& spec) {
  return Find({&spec.evaluate().path(), 1}, spec.evaluate().split(), "evaluate.path");
}

std::string FilesText(const std::vector<std::string>& files) {
  if (files.empty()) return "no files";
  if (files.size() == 1) return files.front();
  return files.front() + " and " + std::to_string(files.size() - 1) + " more";
}

}  // namespace rollcall
