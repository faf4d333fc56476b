#include "services/common/data/example.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "services/common/data/conversation.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr size_t kMaxRanked = 256;

// The column's name in the row.
const std::string& Or(const std::string& mapped, const std::string& own) {
  return mapped.empty() ? own : mapped;
}

std::string Quoted(std::string_view column) { return "'" + std::string(column) + "'"; }

bool Has(const RowJson& row, const std::string& column) {
  return FindColumn(row, column) != nullptr;
}

std::string ColumnList(const RowJson& row) {
  constexpr size_t kMaxShown = 12;
  std::string list;
  size_t count = 0;
  for (const auto& [name, value] : row.items()) {
    if (count++ == kMaxShown) return list + " ...";
    list += (list.empty() ? "" : ", ") + name.substr(0, 64);
  }
  return list;
}

StatusOr<std::vector<double>> ReadNumbers(const RowJson& value, const std::string& column,
                                          size_t wanted) {
  if (!value.is_array() || value.size() != wanted) {
    return InvalidArgument("field " + Quoted(column) + ": expected a list of " +
                           std::to_string(wanted) + " numbers, one for each completion");
  }
  std::vector<double> numbers;
  for (const RowJson& item : value) {
    if (!item.is_number()) {
      return InvalidArgument("field " + Quoted(column) + ": item " +
                             std::to_string(numbers.size() + 1) + " is not a number but " +
                             item.type_name());
    }
    numbers.push_back(item.get<double>());
  }
  return numbers;
}

// The text that both begin with, without a blank at its end and cut at a character.
size_t CommonText(const std::string& a, const std::string& b) {
  const auto [in_a, in_b] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  auto length = static_cast<size_t>(in_a - a.begin());
  length = TruncateUtf8(a, length).size();
  if (length > 0 && a[length - 1] == ' ') --length;
  return length;
}

}  // namespace

std::string_view ExampleKindName(ExampleKind kind) {
  switch (kind) {
    case ExampleKind::kPrompts:
      return "prompts";
    case ExampleKind::kCompletions:
      return "completions";
    case ExampleKind::kPairs:
      return "pairs";
    case ExampleKind::kFeedback:
      return "feedback";
  }
  return "";
}

std::string_view ExampleShapeName(ExampleShape shape) {
  switch (shape) {
    case ExampleShape::kPrompt:
      return "prompt";
    case ExampleShape::kCompletion:
      return "prompt and completion";
    case ExampleShape::kMessages:
      return "messages";
    case ExampleShape::kText:
      return "text";
    case ExampleShape::kPair:
      return "prompt, chosen and rejected";
    case ExampleShape::kImplicitPair:
      return "chosen and rejected with the prompt in both";
    case ExampleShape::kRanked:
      return "prompt and ranked completions";
    case ExampleShape::kFeedback:
      return "prompt, completion and label";
  }
  return "";
}

std::vector<ExampleKind> KindsOfColumns(std::span<const std::string> columns) {
  const auto has = [&](std::string_view name) {
    return std::find(columns.begin(), columns.end(), name) != columns.end();
  };
  std::vector<ExampleKind> kinds;
  if ((has("chosen") && has("rejected")) || (has("prompt") && has("completions"))) {
    kinds.push_back(ExampleKind::kPairs);
  }
  if (has("prompt") && has("completion") && has("label")) kinds.push_back(ExampleKind::kFeedback);
  if ((has("prompt") && has("completion")) || has("messages") || has("text")) {
    kinds.push_back(ExampleKind::kCompletions);
  }
  if (has("prompt")) kinds.push_back(ExampleKind::kPrompts);
  return kinds;
}

ExampleReader::ExampleReader(ExampleKind kind, const ColumnNames& columns)
    : kind_(kind),
      columns_{.prompt = Or(columns.prompt, "prompt"),
               .completion = Or(columns.completion, "completion"),
               .chosen = Or(columns.chosen, "chosen"),
               .rejected = Or(columns.rejected, "rejected"),
               .completions = Or(columns.completions, "completions"),
               .ranks = Or(columns.ranks, "ranks"),
               .scores = Or(columns.scores, "scores"),
               .label = Or(columns.label, "label"),
               .messages = Or(columns.messages, "messages"),
               .text = Or(columns.text, "text"),
               .tools = Or(columns.tools, "tools")} {
  if (kind == ExampleKind::kCompletions && !columns.messages.empty()) {
    named_shape_ = ExampleShape::kMessages;
  } else if (kind == ExampleKind::kCompletions && !columns.text.empty()) {
    named_shape_ = ExampleShape::kText;
  } else if (kind == ExampleKind::kPairs && !columns.completions.empty()) {
    named_shape_ = ExampleShape::kRanked;
  }
}

Status ExampleReader::Missing(const RowJson& row, const std::string& wanted) const {
  std::string message = wanted + "; the row has " + (row.empty() ? "none" : ColumnList(row));
  std::vector<std::string> names;
  for (const auto& [name, value] : row.items()) {
    if (!value.is_null()) names.push_back(name);
  }
  std::string kinds;
  for (const ExampleKind kind : KindsOfColumns(names)) {
    if (kind != kind_) kinds += (kinds.empty() ? "" : " or ") + std::string(ExampleKindName(kind));
  }
  if (!kinds.empty()) message += ", which is data.kind " + kinds;
  return InvalidArgument(message + "; other names are given by data.columns");
}

StatusOr<ExampleShape> ExampleReader::ShapeOf(const RowJson& row) const {
  const auto missing = [&](std::initializer_list<const std::string*> columns) {
    std::string names;
    for (const std::string* column : columns) {
      if (!Has(row, *column)) names += (names.empty() ? "" : " and ") + Quoted(*column);
    }
    return Missing(row, "field " + names + " is missing");
  };
  switch (kind_) {
    case ExampleKind::kPrompts:
      if (!Has(row, columns_.prompt)) return missing({&columns_.prompt});
      return ExampleShape::kPrompt;
    case ExampleKind::kCompletions:
      if (named_shape_ == ExampleShape::kMessages) {
        if (!Has(row, columns_.messages)) return missing({&columns_.messages});
        return ExampleShape::kMessages;
      }
      if (named_shape_ == ExampleShape::kText) {
        if (!Has(row, columns_.text)) return missing({&columns_.text});
        return ExampleShape::kText;
      }
      if (Has(row, columns_.completion)) {
        if (!Has(row, columns_.prompt)) return missing({&columns_.prompt});
        return ExampleShape::kCompletion;
      }
      if (Has(row, columns_.messages)) return ExampleShape::kMessages;
      if (Has(row, columns_.text)) return ExampleShape::kText;
      if (Has(row, columns_.prompt)) return missing({&columns_.completion});
      return Missing(row, "data.kind completions needs the fields " + Quoted(columns_.prompt) +
                              " and " + Quoted(columns_.completion) + ", or " +
                              Quoted(columns_.messages) + ", or " + Quoted(columns_.text));
    case ExampleKind::kPairs: {
      const bool ranked = Has(row, columns_.completions) && !Has(row, columns_.chosen) &&
                          !Has(row, columns_.rejected);
      if (ranked || named_shape_ == ExampleShape::kRanked) {
        if (!Has(row, columns_.prompt) || !Has(row, columns_.completions)) {
          return missing({&columns_.prompt, &columns_.completions});
        }
        return ExampleShape::kRanked;
      }
      if (!Has(row, columns_.chosen) || !Has(row, columns_.rejected)) {
        return missing({&columns_.chosen, &columns_.rejected});
      }
      const RowJson* prompt = FindColumn(row, columns_.prompt);
      // A prompt as text beside conversations is a copy for people: they hold the prompt.
      const bool same_form =
          prompt != nullptr && prompt->is_string() == FindColumn(row, columns_.chosen)->is_string();
      return same_form ? ExampleShape::kPair : ExampleShape::kImplicitPair;
    }
    case ExampleKind::kFeedback:
      if (!Has(row, columns_.prompt) || !Has(row, columns_.completion) ||
          !Has(row, columns_.label)) {
        return missing({&columns_.prompt, &columns_.completion, &columns_.label});
      }
      return ExampleShape::kFeedback;
  }
  return Internal("no such kind");
}

StatusOr<Content> ExampleReader::ReadContent(const RowJson& row, const std::string& column) const {
  const RowJson* value = FindColumn(row, column);
  if (value == nullptr) return InvalidArgument("field " + Quoted(column) + " is missing");
  if (value->is_string()) return Content{value->get<std::string>(), {}};
  if (!LooksLikeConversation(*value)) {
    return InvalidArgument("field " + Quoted(column) +
                           " is neither a text nor a conversation but " + value->type_name());
  }
  StatusOr<RowJson> messages = ReadConversation(*value);
  if (!messages.ok()) return Annotate(messages.status(), "field " + Quoted(column));
  return Content{"", *std::move(messages)};
}

Status ExampleReader::ReadPair(const RowJson& row, Example* example) const {
  ROLLCALL_ASSIGN_OR_RETURN(Content chosen, ReadContent(row, columns_.chosen));
  ROLLCALL_ASSIGN_OR_RETURN(Content rejected, ReadContent(row, columns_.rejected));
  if (chosen.is_conversation() != rejected.is_conversation()) {
    return InvalidArgument("one of " + Quoted(columns_.chosen) + " and " +
                           Quoted(columns_.rejected) + " is a text, the other a conversation");
  }
  if (example->shape == ExampleShape::kPair) {
    ROLLCALL_ASSIGN_OR_RETURN(example->prompt, ReadContent(row, columns_.prompt));
  } else if (chosen.is_conversation()) {
    // Both must keep a message: equal conversations differ in nothing but have a prompt.
    const size_t shorter = std::min(chosen.messages.size(), rejected.messages.size());
    const size_t common = std::min(CommonPrefix(chosen.messages, rejected.messages), shorter - 1);
    if (common == 0) {
      return InvalidArgument(Quoted(columns_.chosen) + " and " + Quoted(columns_.rejected) +
                             " do not begin with the same message: the row has no prompt");
    }
    example->prompt.messages = Messages(chosen.messages, 0, common);
    chosen.messages = Messages(chosen.messages, common, chosen.messages.size());
    rejected.messages = Messages(rejected.messages, common, rejected.messages.size());
  } else {
    const size_t common = CommonText(chosen.text, rejected.text);
    example->prompt.text = chosen.text.substr(0, common);
    chosen.text.erase(0, common);
    rejected.text.erase(0, common);
  }
  example->completions.push_back(std::move(chosen));
  example->completions.push_back(std::move(rejected));
  return OkStatus();
}

Status ExampleReader::ReadRanked(const RowJson& row, Example* example) const {
  ROLLCALL_ASSIGN_OR_RETURN(example->prompt, ReadContent(row, columns_.prompt));
  const std::string& column = columns_.completions;
  const RowJson& list = *FindColumn(row, column);
  if (!list.is_array() || list.size() < 2 || list.size() > kMaxRanked) {
    return InvalidArgument("field " + Quoted(column) + ": expected a list of 2 to " +
                           std::to_string(kMaxRanked) + " completions" +
                           (list.is_array() ? ", got " + std::to_string(list.size()) : ""));
  }
  std::vector<Content> completions;
  for (const RowJson& item : list) {
    const std::string place =
        "field " + Quoted(column) + ": completion " + std::to_string(completions.size() + 1);
    if (item.is_string()) {
      completions.push_back({item.get<std::string>(), {}});
    } else {
      StatusOr<RowJson> messages = ReadConversation(item);
      if (!messages.ok()) return Annotate(messages.status(), place);
      completions.push_back({"", *std::move(messages)});
    }
    if (completions.back().is_conversation() != example->prompt.is_conversation()) {
      return InvalidArgument(place + " and the prompt are not both texts or both conversations");
    }
  }
  std::vector<double> goodness;
  const RowJson* ranks = FindColumn(row, columns_.ranks);
  const RowJson* scores = FindColumn(row, columns_.scores);
  if (ranks != nullptr && scores != nullptr) {
    return InvalidArgument("both " + Quoted(columns_.ranks) + " and " + Quoted(columns_.scores) +
                           " are given; one of them ranks the completions");
  }
  if (ranks != nullptr) {
    ROLLCALL_ASSIGN_OR_RETURN(goodness, ReadNumbers(*ranks, columns_.ranks, list.size()));
    for (double& rank : goodness) rank = -rank;
  } else if (scores != nullptr) {
    ROLLCALL_ASSIGN_OR_RETURN(goodness, ReadNumbers(*scores, columns_.scores, list.size()));
  } else {
    for (size_t i = 0; i < list.size(); ++i) goodness.push_back(-static_cast<double>(i));
  }
  std::vector<size_t> order(list.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return goodness[a] > goodness[b]; });
  for (const size_t i : order) {
    example->completions.push_back(std::move(completions[i]));
    example->ranking.push_back(goodness[i]);
  }
  return OkStatus();
}

Status ExampleReader::ReadTools(const RowJson& row, Example* example) const {
  const RowJson* value = FindColumn(row, columns_.tools);
  if (value == nullptr) return OkStatus();
  RowJson parsed;
  // Data sets store tools as text too, because their parameters have no common type.
  if (value->is_string()) {
    const StatusOr<RowJson> wrapped =
        ParseRow("{\"tools\":" + value->get_ref<const std::string&>() + "}");
    if (!wrapped.ok()) {
      return InvalidArgument("field " + Quoted(columns_.tools) + " is a text that is no JSON list");
    }
    parsed = (*wrapped)["tools"];
    value = &parsed;
  }
  if (!value->is_array()) {
    return InvalidArgument("field " + Quoted(columns_.tools) + " is not a list but " +
                           value->type_name());
  }
  for (const RowJson& tool : *value) {
    if (!tool.is_object()) {
      return InvalidArgument("field " + Quoted(columns_.tools) +
                             ": a tool is an object with its JSON schema, got " + tool.type_name());
    }
  }
  if (!value->empty()) example->tools = WithoutNulls(*value);
  return OkStatus();
}

Status ExampleReader::CheckSameAsFirst(const Example& example) {
  const bool has_prompt =
      example.shape != ExampleShape::kMessages && example.shape != ExampleShape::kText;
  const bool conversational = has_prompt && example.shape != ExampleShape::kImplicitPair
                                  ? example.prompt.is_conversation()
                                  : example.completions.front().is_conversation();
  for (const Content& completion : example.completions) {
    if (completion.is_conversation() != conversational) {
      return InvalidArgument(
          "the prompt and its completion are not both texts or both conversations");
    }
  }
  if (!shape_.has_value()) {
    shape_ = example.shape;
    is_conversational_ = conversational;
    return OkStatus();
  }
  if (*shape_ != example.shape) {
    return InvalidArgument("the row has the shape " + std::string(ExampleShapeName(example.shape)) +
                           ", the rows before it " + std::string(ExampleShapeName(*shape_)) +
                           "; all rows must have one shape");
  }
  if (is_conversational_ != conversational) {
    return InvalidArgument(
        std::string("the row is ") + (conversational ? "a conversation" : "a text") +
        ", the rows before it are " + (is_conversational_ ? "conversations" : "texts") +
        "; all rows must have one shape");
  }
  return OkStatus();
}

StatusOr<Example> ExampleReader::Read(const RowJson& row) {
  Example example;
  ROLLCALL_ASSIGN_OR_RETURN(example.shape, ShapeOf(row));
  switch (example.shape) {
    case ExampleShape::kPrompt: {
      ROLLCALL_ASSIGN_OR_RETURN(example.prompt, ReadContent(row, columns_.prompt));
      break;
    }
    case ExampleShape::kFeedback: {
      const RowJson& label = *FindColumn(row, columns_.label);
      if (!label.is_boolean()) {
        return InvalidArgument("field " + Quoted(columns_.label) + " is not true or false but " +
                               label.type_name());
      }
      example.label = label.get<bool>();
      [[fallthrough]];
    }
    case ExampleShape::kCompletion: {
      ROLLCALL_ASSIGN_OR_RETURN(example.prompt, ReadContent(row, columns_.prompt));
      ROLLCALL_ASSIGN_OR_RETURN(Content completion, ReadContent(row, columns_.completion));
      example.completions.push_back(std::move(completion));
      break;
    }
    case ExampleShape::kMessages: {
      const RowJson& value = *FindColumn(row, columns_.messages);
      StatusOr<RowJson> messages = ReadConversation(value);
      if (!messages.ok()) return Annotate(messages.status(), "field " + Quoted(columns_.messages));
      example.completions.push_back({"", *std::move(messages)});
      break;
    }
    case ExampleShape::kText: {
      const RowJson& value = *FindColumn(row, columns_.text);
      if (!value.is_string()) {
        return InvalidArgument("field " + Quoted(columns_.text) + " is not a text but " +
                               value.type_name());
      }
      example.completions.push_back({value.get<std::string>(), {}});
      break;
    }
    case ExampleShape::kPair:
    case ExampleShape::kImplicitPair:
      ROLLCALL_RETURN_IF_ERROR(ReadPair(row, &example));
      break;
    case ExampleShape::kRanked:
      ROLLCALL_RETURN_IF_ERROR(ReadRanked(row, &example));
      break;
  }
  ROLLCALL_RETURN_IF_ERROR(CheckSameAsFirst(example));
  const bool conversational =
      example.prompt.is_conversation() ||
      (!example.completions.empty() && example.completions.front().is_conversation());
  if (conversational) ROLLCALL_RETURN_IF_ERROR(ReadTools(row, &example));
  return example;
}

}  // namespace rollcall
