// The filters of jinja2, by name.
#pragma once

#include <string>
#include <string_view>

#include "services/base/status/status.h"
#include "services/common/template/interpreter.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

// kInvalidArgument where Python raises.
using FilterFn = StatusOr<Value> (*)(Interpreter& interpreter, const Value& value, CallArgs args);

// Null when there is none.
FilterFn FindFilter(std::string_view name);

struct NamedFilter {
  std::string_view name;
  FilterFn fn;
};
// In parts, by what they work on.
FilterFn FindTextFilter(std::string_view name);
FilterFn FindNumberFilter(std::string_view name);
FilterFn FindSequenceFilter(std::string_view name);
FilterFn FindSelectFilter(std::string_view name);

// The value of "a.b.0" of an item, as map(attribute=...) and its kin look it up: every part by
// GetItem; `fallback`, unless null, replaces what is undefined.
StatusOr<Value> AttributePath(Interpreter& interpreter, const Value& item, const Value& path,
                              const Value* fallback);

}  // namespace rollcall::jinja
