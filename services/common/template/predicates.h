// The tests of jinja2 ("value is name"), by name; called predicates here, as tests are something
// else.
#pragma once

#include <string_view>

#include "services/base/status/status.h"
#include "services/common/template/interpreter.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

using PredicateFn = StatusOr<bool> (*)(Interpreter& interpreter, const Value& value, CallArgs args);

// Null when there is none.
PredicateFn FindPredicate(std::string_view name);

}  // namespace rollcall::jinja
