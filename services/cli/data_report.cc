#include "services/cli/data_report.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "services/common/data/conversation.h"
#include "services/common/data/data_files.h"

namespace rollcall {
namespace {

constexpr size_t kMaxColumns = 1000;
constexpr ExampleKind kKinds[] = {ExampleKind::kPairs, ExampleKind::kFeedback,
                                  ExampleKind::kCompletions, ExampleKind::kPrompts};

std::string TypeOf(const RowJson& value) {
  if (value.is_string()) return "text";
  if (value.is_boolean()) return "true or false";
  if (value.is_number_integer()) return "whole number";
  if (value.is_number()) return "number";
  if (!value.is_array()) return value.type_name();
  if (value.empty()) return "empty list";
  if (LooksLikeConversation(value) && value.front().contains("role")) return "conversation";
  return "list of " + TypeOf(value.front());
}

// Tries one kind on every row until a row does not fit.
class KindTrial {
 public:
  KindTrial(ExampleKind kind, const DataInspection& inspection)
      : kind_(kind), encoding_(inspection.encoding), reader_(kind, inspection.columns) {}

  void Add(const DataRow& row) {
    if (!status_.ok()) return;
    status_ = Read(row);
    place_ = row.place;
  }

  ExampleKind kind() const { return kind_; }
  const Status& status() const { return status_; }
  const std::string& place() const { return place_; }
  std::vector<int64_t>& prompt_tokens() { return prompt_tokens_; }
  std::vector<int64_t>& completion_tokens() { return completion_tokens_; }

 private:
  Status Read(const DataRow& row) {
    ROLLCALL_ASSIGN_OR_RETURN(const Example example, reader_.Read(row.value));
    if (encoding_ == nullptr) return OkStatus();
    ROLLCALL_ASSIGN_OR_RETURN(const EncodedExample encoded, EncodeExample(example, *encoding_));
    prompt_tokens_.push_back(static_cast<int64_t>(encoded.prompt.size()));
    for (const TokenRuns& runs : encoded.completions) {
      completion_tokens_.push_back(NumTokens(runs));
    }
    return OkStatus();
  }

  const ExampleKind kind_;
  const ExampleEncoding* const encoding_;
  ExampleReader reader_;
  Status status_;
  std::string place_;
  std::vector<int64_t> prompt_tokens_;
  std::vector<int64_t> completion_tokens_;
};

std::optional<LengthReport> Lengths(std::vector<int64_t>& values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const auto at = [&](size_t percent) {
    return values[std::min(values.size() - 1, (values.size() * percent + 99) / 100 - 1)];
  };
  return LengthReport{at(50), at(90), at(99), values.back()};
}

void AddColumns(const RowJson& row, DataReport* report) {
  for (const auto& [name, value] : row.items()) {
    if (!report->columns.contains(name) && report->columns.size() >= kMaxColumns) continue;
    ColumnReport& column = report->columns[name];
    if (value.is_null()) continue;
    ++column.num_rows;
    if (column.types.size() < 8) column.types.insert(TypeOf(value));
  }
}

}  // namespace

StatusOr<DataReport> InspectData(const DataInspection& inspection) {
  DataReport report;
  report.files = inspection.files;
  for (const std::string& file : inspection.files) {
    std::error_code error;
    const uint64_t size = std::filesystem::file_size(file, error);
    if (!error) report.size_bytes += size;
  }
  std::vector<KindTrial> trials;
  for (const ExampleKind kind : kKinds) {
    if (!inspection.kind.has_value() || *inspection.kind == kind) {
      trials.emplace_back(kind, inspection);
    }
  }
  const Status read =
      ReadRows(inspection.files, {.max_rows = inspection.max_rows}, [&](const DataRow& row) {
        if (report.num_rows++ == 0) report.example = row.text;
        AddColumns(row.value, &report);
        for (KindTrial& trial : trials) trial.Add(row);
        return inspection.kind.has_value() ? trials.front().status() : OkStatus();
      });
  ROLLCALL_RETURN_IF_ERROR(read);
  std::vector<std::string> names;
  for (const auto& [name, column] : report.columns) {
    if (column.num_rows > 0) names.push_back(name);
  }
  const std::vector<ExampleKind> likely = KindsOfColumns(names);
  for (KindTrial& trial : trials) {
    if (trial.status().ok()) {
      if (report.kinds.empty()) {
        report.prompt_tokens = Lengths(trial.prompt_tokens());
        report.completion_tokens = Lengths(trial.completion_tokens());
      }
      report.kinds.push_back(trial.kind());
    } else if (std::find(likely.begin(), likely.end(), trial.kind()) != likely.end()) {
      report.refused.emplace_back(trial.kind(), trial.place() + ": " + Message(trial.status()));
    }
  }
  return report;
}

}  // namespace rollcall
