// Iteration over whatever Python iterates over.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/template/interpreter.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

// Undefined is empty; a string gives its characters, a dict its keys; an iterator is itself.
// kInvalidArgument: not iterable.
StatusOr<std::shared_ptr<IteratorObject>> Iterate(Interpreter& interpreter, const Value& value);
bool IsIterable(const Value& value);

// All items, in a vector.
StatusOr<std::vector<Value>> Collect(Interpreter& interpreter, const Value& value);

// A generator: next() is called for each item, and says false at the end. `depth` is that of the
// values which next() holds.
using NextFn = std::function<StatusOr<bool>(Interpreter&, Value* out)>;
StatusOr<Value> MakeGenerator(Heap& heap, int depth, NextFn next);

}  // namespace rollcall::jinja
