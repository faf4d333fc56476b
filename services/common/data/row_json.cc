#include "services/common/data/row_json.h"

#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr int kMaxDepth = 64;
constexpr std::string_view kAnswerColumns[] = {
    "answer", "ground_truth", "reward_model.ground_truth", "reward_spec.ground_truth"};

StatusOr<std::string> AnswerText(const RowJson& value, std::string_view column) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number()) return value.dump();
  return InvalidArgument("field '" + std::string(column) + "' is neither a text nor a number but " +
                         value.type_name());
}

}  // namespace

StatusOr<RowJson> ParseRow(std::string_view text) {
  if (text.size() > kMaxRowBytes) {
    return InvalidArgument("the row has " + std::to_string(text.size()) + " bytes, the limit is " +
                           std::to_string(kMaxRowBytes));
  }
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != text.size()) {
    return InvalidArgument("not UTF-8 at byte " + std::to_string(invalid + 1) + " of the line");
  }
  bool too_deep = false;
  const auto deep = [] {
    return InvalidArgument("nested deeper than " + std::to_string(kMaxDepth));
  };
  RowJson row;
  try {
    row = RowJson::parse(text, [&](int depth, RowJson::parse_event_t, const RowJson&) {
      too_deep = too_deep || depth > kMaxDepth;
      return !too_deep;
    });
  } catch (const RowJson::parse_error& e) {
    if (too_deep) return deep();
    return InvalidArgument("not JSON at byte " + std::to_string(e.byte) + " of the line");
  } catch (const RowJson::exception& e) {
    return InvalidArgument(std::string("not JSON: ") + e.what());
  }
  if (too_deep) return deep();
  if (!row.is_object()) {
    return InvalidArgument(std::string("expected a JSON object, got ") + row.type_name());
  }
  return row;
}

const RowJson* FindColumn(const RowJson& row, std::string_view path) {
  const RowJson* value = &row;
  if (const auto whole = row.find(path); whole != row.end()) {
    value = &*whole;
  } else {
    while (true) {
      const size_t dot = path.find('.');
      if (!value->is_object()) return nullptr;
      const auto part = value->find(path.substr(0, dot));
      if (part == value->end()) return nullptr;
      value = &*part;
      if (dot == std::string_view::npos) break;
      path.remove_prefix(dot + 1);
    }
  }
  return value->is_null() ? nullptr : value;
}

StatusOr<std::string> RowAnswer(const std::string& row_text, const std::string& column) {
  ROLLCALL_ASSIGN_OR_RETURN(const RowJson row, ParseRow(row_text));
  if (!column.empty()) {
    const RowJson* value = FindColumn(row, column);
    if (value == nullptr) return NotFound("the row has no field '" + column + "'");
    return AnswerText(*value, column);
  }
  for (const std::string_view name : kAnswerColumns) {
    if (const RowJson* value = FindColumn(row, name); value != nullptr) {
      return AnswerText(*value, name);
    }
  }
  return NotFound("the row has no field 'answer' or 'ground_truth'");
}

}  // namespace rollcall
