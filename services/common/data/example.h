// Rows by what they say: prompts, completions, preferences, feedback.
//
//   kind          columns (names can be mapped)               each text, or a conversation
//   prompts       prompt
//   completions   prompt, completion | messages | text
//   pairs         prompt, chosen, rejected | chosen, rejected (prompt: what both begin with)
//                 | prompt, completions best first, or with ranks or scores
//   feedback      prompt, completion, label
//
// Conversational rows may have a column tools. All rows of a job have one shape.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/data/row_json.h"

namespace rollcall {

enum class ExampleKind { kPrompts, kCompletions, kPairs, kFeedback };
std::string_view ExampleKindName(ExampleKind kind);

// Columns by another name than their own; a path into nested columns has dots. Empty: its own name.
struct ColumnNames {
  std::string prompt;
  std::string completion;
  std::string chosen;
  std::string rejected;
  std::string completions;
  std::string ranks;
  std::string scores;
  std::string label;
  std::string messages;
  std::string text;
  std::string tools;
};

// A text, or messages that were checked.
struct Content {
  std::string text;
  RowJson messages;  // an array; null when it is a text
  bool is_conversation() const { return messages.is_array(); }
};

enum class ExampleShape {
  kPrompt,
  kCompletion,
  kMessages,
  kText,
  kPair,
  kImplicitPair,
  kRanked,
  kFeedback
};
// "prompt and completion": for messages.
std::string_view ExampleShapeName(ExampleShape shape);

struct Example {
  ExampleShape shape = ExampleShape::kPrompt;
  // Absent (an empty text) in rows of shape kMessages and kText.
  Content prompt;
  // The completion; chosen and rejected; ranked completions, best first; the whole text or
  // conversation of kText and kMessages.
  std::vector<Content> completions;
  // Of ranked rows: how good each completion is, falling; equal ones are ties.
  std::vector<double> ranking;
  bool label = false;  // of feedback
  RowJson tools;       // an array; null when there are none
};

// Reads the rows of one job. The first row decides the shape; rows of another shape are refused.
// Not thread-safe.
class ExampleReader {
 public:
  ExampleReader(ExampleKind kind, const ColumnNames& columns);

  // kInvalidArgument says which column and what would be right.
  StatusOr<Example> Read(const RowJson& row);

 private:
  StatusOr<ExampleShape> ShapeOf(const RowJson& row) const;
  Status Missing(const RowJson& row, const std::string& wanted) const;
  StatusOr<Content> ReadContent(const RowJson& row, const std::string& column) const;
  Status ReadPair(const RowJson& row, Example* example) const;
  Status ReadRanked(const RowJson& row, Example* example) const;
  Status ReadTools(const RowJson& row, Example* example) const;
  Status CheckSameAsFirst(const Example& example);

  const ExampleKind kind_;
  const ColumnNames columns_;
  // Columns that were named are meant, whatever else the row has.
  std::optional<ExampleShape> named_shape_;
  std::optional<ExampleShape> shape_;
  bool is_conversational_ = false;
};

// The kinds that rows with these columns can be used as, the most telling first; empty when none.
std::vector<ExampleKind> KindsOfColumns(std::span<const std::string> columns);

}  // namespace rollcall
