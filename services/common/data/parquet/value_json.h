// Values of Arrow arrays as JSON text, spelled as a person would write them in a JSONL file:
//
//   struct, map with text keys    object            list (all kinds)        array
//   text                          string            dictionary              its value
//   whole numbers, bool, null     themselves        NaN, infinity           null
//   timestamp                     "2024-05-01T12:00:00.250000", "+00:00" behind it with a time zone
//   date, time                    "2024-05-01", "12:00:00.250000"
//   duration                      seconds           decimal                 text, all digits kept
//
// Binary and interval columns have no JSON form and are refused.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <arrow/type_fwd.h>

#include "services/base/status/status.h"

namespace rollcall {

struct JsonValueLimits {
  int max_depth = 32;  // of nested lists and structs
  size_t max_row_bytes = 16 << 20;
};

// Whether every value of the type has a JSON form. `column` names it in messages: "a.b".
// kInvalidArgument: "column 'image.bytes': binary values have no JSON form; ...".
Status CheckColumnType(const arrow::DataType& type, const std::string& column,
                       const JsonValueLimits& limits);

// Appends the value at `index` of an array whose type passed CheckColumnType.
// kInvalidArgument names the column: text that is not UTF-8, a date that is out of range.
// kResourceExhausted: *out grew past max_row_bytes.
Status AppendJsonValue(const arrow::Array& array, int64_t index, const std::string& column,
                       const JsonValueLimits& limits, std::string* out);

// Appends `text`, which must be UTF-8, as a JSON string.
void AppendJsonString(std::string_view text, std::string* out);

}  // namespace rollcall
