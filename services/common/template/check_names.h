// Whether every filter and test that a template names exists.
#pragma once

#include "services/base/status/status.h"
#include "services/common/template/syntax.h"

namespace rollcall::jinja {

// What stands under an {% if %} or an inline if is left to the moment it runs, as jinja2 does: a
// template may guard what its engine lacks. kInvalidArgument or kUnimplemented with the line.
Status CheckNames(const SyntaxTree& tree);

// The error for a filter or test that is not here: unknown, or known to jinja2 only.
Status UnknownFilter(const std::string& name);
Status UnknownTest(const std::string& name);

}  // namespace rollcall::jinja
