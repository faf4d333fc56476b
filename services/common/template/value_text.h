// str() and repr() of values, and float() of texts.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "services/base/status/status.h"
#include "services/common/template/heap.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

// As print() shows it: a string is itself, undefined is empty.
StatusOr<std::string> Str(Heap& heap, const Value& value);
StatusOr<std::string> Repr(Heap& heap, const Value& value);
std::string ReprText(std::string_view text);
// The shortest digits that read back as the same number: 0.1, 1e-07, 1e+16, inf, nan.
std::string ReprFloat(double value);

// float(text) and int(text, base); nothing when Python raises ValueError.
std::optional<double> ParseFloat(std::string_view text);
StatusOr<std::optional<int64_t>> ParseInt(std::string_view text, int base);

}  // namespace rollcall::jinja
