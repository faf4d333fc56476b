// Python's operators over values. kInvalidArgument where Python raises; integers are 64 bits wide,
// and a result that needs more is refused.
#pragma once

#include <cstdint>

#include "services/base/status/status.h"
#include "services/common/template/heap.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class CompareOp : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

// bool(value). Never fails: undefined is false, iterators and objects are true.
bool IsTrue(const Value& value);
// len(value).
StatusOr<int64_t> Length(const Value& value);

StatusOr<bool> Equal(Heap& heap, const Value& a, const Value& b);
// a < b.
StatusOr<bool> Less(Heap& heap, const Value& a, const Value& b);
// kIn and kNotIn are not for this one: an iterator has to run.
StatusOr<bool> Compare(Heap& heap, CompareOp op, const Value& a, const Value& b);

StatusOr<Value> Arithmetic(Heap& heap, BinaryOp op, const Value& a, const Value& b);
StatusOr<Value> Negate(const Value& value);
StatusOr<Value> Plus(const Value& value);

// value[start:stop:step]; None where a part is left out.
StatusOr<Value> Slice(Heap& heap, const Value& value, const Value& start, const Value& stop,
                      const Value& step);

// "a is undefined" and so on, for operands that Python refuses.
Status UndefinedError(const Value& value);
Status OperandError(const char* op, const Value& a, const Value& b);

}  // namespace rollcall::jinja
