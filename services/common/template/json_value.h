// JSON to values and back, as Python's json module does both.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "services/base/status/status.h"
#include "services/common/template/heap.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

// Objects keep the order of their keys. kInvalidArgument: not JSON, nested too deep, or an integer
// of more than 64 bits.
StatusOr<Value> ParseJson(Heap& heap, std::string_view json);

struct DumpOptions {
  bool ensure_ascii = false;
  std::optional<std::string> indent;  // of one level; nothing: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};

// kInvalidArgument: a value that JSON has no form for.
StatusOr<std::string> DumpJson(Heap& heap, const Value& value, const DumpOptions& options);

}  // namespace rollcall::jinja
