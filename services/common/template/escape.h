// HTML escaping as MarkupSafe does it.
#pragma once

#include <string>

#include "services/base/status/status.h"
#include "services/common/template/heap.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

// A string escaped, unless it is markup already. `value` is a string.
StatusOr<std::string> EscapeHtml(const Heap& heap, const Value& value);
std::string EscapeHtml(std::string_view text);

}  // namespace rollcall::jinja
