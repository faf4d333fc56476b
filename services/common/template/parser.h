// Tokens to a syntax tree: the grammar of jinja2 with loop controls and {% generation %}.
#pragma once

#include <string_view>

#include "services/base/status/status.h"
#include "services/common/template/limits.h"
#include "services/common/template/syntax.h"

namespace rollcall::jinja {

// kInvalidArgument: wrong, with the line; kUnimplemented: right, but not supported here, such as
// {% include %}; kResourceExhausted: too long or nested too deep.
StatusOr<SyntaxTree> Parse(std::string_view source, const TemplateLimits& limits);

}  // namespace rollcall::jinja
