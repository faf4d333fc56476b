// "..." % values: Python's printf-style formatting.
#pragma once

#include "services/base/status/status.h"
#include "services/common/template/heap.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

// `values`: a tuple of one value for each conversion, a dict for %(name)s, or one value alone.
StatusOr<Value> PercentFormat(Heap& heap, const Value& format, const Value& values);

}  // namespace rollcall::jinja
