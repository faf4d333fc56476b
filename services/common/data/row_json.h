// One row as JSON, and the values in it.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "services/base/status/status.h"

namespace rollcall {

// Keeps the order of keys: chat templates print tools in the order in which they were written.
using RowJson = nlohmann::ordered_json;

// Longest row of any format.
constexpr size_t kMaxRowBytes = 16 << 20;

// Parses a row. kInvalidArgument says what is wrong: too long, not UTF-8, not JSON (with the byte),
// nested deeper than 64, not an object.
StatusOr<RowJson> ParseRow(std::string_view text);

// The value of a column: the key `path` itself, or, where the row has no such key, a path into
// nested objects ("reward_model.ground_truth"). Null when absent or a JSON null.
const RowJson* FindColumn(const RowJson& row, std::string_view path);

// The ground truth of a row as text; a number as it is spelled in the shortest form that reads back
// the same. `column` as in FindColumn; empty takes the first that the row has of "answer",
// "ground_truth", "reward_model.ground_truth" and "reward_spec.ground_truth".
// kNotFound when absent or null; kInvalidArgument when it is something else or the text is no row.
StatusOr<std::string> RowAnswer(const std::string& row_text, const std::string& column);

}  // namespace rollcall
