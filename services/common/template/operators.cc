#include "services/common/template/operators.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "services/common/template/escape.h"
#include "services/common/template/percent_format.h"
#include "services/common/template/unicode.h"

namespace rollcall::jinja {
namespace {

constexpr const char* kBinaryNames[] = {"+", "-", "*", "/", "//", "%", "**"};
constexpr const char* kCompareNames[] = {"==", "!=", "<", "<=", ">", ">=", "in", "not in"};

Status TooLargeInteger() {
  return InvalidArgument(
      "the result does not fit an integer of 64 bits, which is what is supported");
}

// -1, 0, 1; 2 when one of them is not a number. Exact for integers against floats.
int CompareNumbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    if (a.as_int() == b.as_int()) return 0;
    return a.as_int() < b.as_int() ? -1 : 1;
  }
  const auto wide = [](const Value& value) {
    return value.is_integral() ? static_cast<long double>(value.as_int())
                               : static_cast<long double>(value.as_float());
  };
  const long double x = wide(a);
  const long double y = wide(b);
  if (std::isnan(x) || std::isnan(y)) return 2;
  if (x == y) return 0;
  return x < y ? -1 : 1;
}

StatusOr<bool> EqualDicts(Heap& heap, const DictObject& a, const DictObject& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    ROLLCALL_ASSIGN_OR_RETURN(const Value* other, heap.Find(b, key));
    if (other == nullptr) return false;
    ROLLCALL_ASSIGN_OR_RETURN(const bool equal, Equal(heap, value, *other));
    if (!equal) return false;
  }
  return true;
}

bool EqualRanges(const RangeObject& a, const RangeObject& b) {
  if (a.size != b.size) return false;
  if (a.size == 0) return true;
  return a.start == b.start && (a.size == 1 || a.step == b.step);
}

// Whether a comes before b, over two sequences; `or_equal` decides when one is all of the other.
StatusOr<bool> SequenceCompare(Heap& heap, CompareOp op, const std::vector<Value>& a,
                               const std::vector<Value>& b) {
  const size_t common = std::min(a.size(), b.size());
  for (size_t i = 0; i < common; ++i) {
    ROLLCALL_ASSIGN_OR_RETURN(const bool equal, Equal(heap, a[i], b[i]));
    if (!equal) return Compare(heap, op, a[i], b[i]);
  }
  return Compare(heap, op, Value::Int(static_cast<int64_t>(a.size())),
                 Value::Int(static_cast<int64_t>(b.size())));
}

bool Holds(CompareOp op, int order) {
  if (order == 2) return false;
  switch (op) {
    case CompareOp::kLt:
      return order < 0;
    case CompareOp::kLe:
      return order <= 0;
    case CompareOp::kGt:
      return order > 0;
    default:
      return order >= 0;
  }
}

StatusOr<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return InvalidArgument("0 cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) {
      return TooLargeInteger();
    }
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return TooLargeInteger();
  }
  return Value::Int(result);
}

StatusOr<Value> IntegerArithmetic(BinaryOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return TooLargeInteger();
      return Value::Int(result);
    case BinaryOp::kSub:
      if (__builtin_sub_overflow(a, b, &result)) return TooLargeInteger();
      return Value::Int(result);
    case BinaryOp::kMul:
      if (__builtin_mul_overflow(a, b, &result)) return TooLargeInteger();
      return Value::Int(result);
    case BinaryOp::kDiv:
      if (b == 0) return InvalidArgument("division by zero");
      return Value::Float(
          static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
    case BinaryOp::kFloorDiv:
    case BinaryOp::kMod: {
      if (b == 0) return InvalidArgument("integer division or modulo by zero");
      if (b == -1) {
        if (op == BinaryOp::kMod) return Value::Int(0);
        if (__builtin_sub_overflow(int64_t{0}, a, &result)) return TooLargeInteger();
        return Value::Int(result);
      }
      const bool adjust = a % b != 0 && ((a % b < 0) != (b < 0));
      if (op == BinaryOp::kMod) return Value::Int(a % b + (adjust ? b : 0));
      return Value::Int(a / b - (adjust ? 1 : 0));
    }
    case BinaryOp::kPow:
      return IntegerPower(a, b);
  }
  return TooLargeInteger();
}

// Quotient and remainder as CPython computes them.
std::pair<double, double> FloatDivMod(double a, double b) {
  double mod = std::fmod(a, b);
  double div = (a - mod) / b;
  if (mod != 0) {
    if ((b < 0) != (mod < 0)) {
      mod += b;
      div -= 1;
    }
  } else {
    mod = std::copysign(0.0, b);
  }
  if (div == 0) return {std::copysign(0.0, a / b), mod};
  double floored = std::floor(div);
  if (div - floored > 0.5) floored += 1;
  return {floored, mod};
}

StatusOr<Value> FloatArithmetic(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value::Float(a + b);
    case BinaryOp::kSub:
      return Value::Float(a - b);
    case BinaryOp::kMul:
      return Value::Float(a * b);
    case BinaryOp::kDiv:
      if (b == 0) return InvalidArgument("float division by zero");
      return Value::Float(a / b);
    case BinaryOp::kFloorDiv:
      if (b == 0) return InvalidArgument("float floor division by zero");
      return Value::Float(FloatDivMod(a, b).first);
    case BinaryOp::kMod:
      if (b == 0) return InvalidArgument("float modulo by zero");
      return Value::Float(FloatDivMod(a, b).second);
    case BinaryOp::kPow: {
      if (a == 0 && b < 0) return InvalidArgument("0.0 cannot be raised to a negative power");
      const double result = std::pow(a, b);
      if (std::isnan(result) && !std::isnan(a) && !std::isnan(b)) {
        return InvalidArgument("a negative number to a broken power is complex: not supported");
      }
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
        return InvalidArgument("the result of ** is too large for a float");
      }
      return Value::Float(result);
    }
  }
  return InvalidArgument("unknown operator");
}

StatusOr<Value> Repeat(Heap& heap, const Value& value, int64_t count) {
  const size_t times = count < 0 ? 0 : static_cast<size_t>(count);
  if (value.is_string()) {
    ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(times, value.text().size()));
    std::string out;
    out.reserve(value.text().size() * times);
    if (!value.text().empty()) {
      for (size_t i = 0; i < times; ++i) out += value.text();
    }
    return heap.StringLike(value, std::move(out));
  }
  const auto& items = value.items();
  if (!items.empty() && times > heap.limits().max_live_bytes / sizeof(Value) / items.size()) {
    return heap.CheckItems(heap.limits().max_live_bytes);
  }
  ROLLCALL_RETURN_IF_ERROR(heap.Step(static_cast<int64_t>(items.size() * times)));
  std::vector<Value> out;
  out.reserve(items.size() * times);
  if (!items.empty()) {
    for (size_t i = 0; i < times; ++i) out.insert(out.end(), items.begin(), items.end());
  }
  return value.is(Kind::kList) ? heap.List(std::move(out)) : heap.Tuple(std::move(out));
}

StatusOr<Value> AddStrings(Heap& heap, const Value& a, const Value& b) {
  ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(a.text().size() + b.text().size()));
  const bool markup_a = a.string().is_markup;
  const bool markup_b = b.string().is_markup;
  if (markup_a == markup_b) {
    std::string out(a.text());
    out += b.text();
    return heap.StringLike(a, std::move(out));
  }
  // Markup escapes the plain one of the two.
  ROLLCALL_ASSIGN_OR_RETURN(std::string left, EscapeHtml(heap, a));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string right, EscapeHtml(heap, b));
  return heap.Markup(std::move(left) + right);
}

StatusOr<Value> AddSequences(Heap& heap, const Value& a, const Value& b) {
  std::vector<Value> out;
  ROLLCALL_RETURN_IF_ERROR(heap.Step(static_cast<int64_t>(a.items().size() + b.items().size())));
  out.reserve(a.items().size() + b.items().size());
  out.insert(out.end(), a.items().begin(), a.items().end());
  out.insert(out.end(), b.items().begin(), b.items().end());
  return a.is(Kind::kList) ? heap.List(std::move(out)) : heap.Tuple(std::move(out));
}

// One bound of a slice as a position in [0, size], or [-1, size - 1] going backwards.
StatusOr<int64_t> SliceBound(const Value& bound, int64_t size, bool backwards, int64_t missing) {
  if (bound.is_none()) return missing;
  if (!bound.is_integral()) {
    return InvalidArgument("slice indices must be integers or None, not " + TypeName(bound));
  }
  int64_t at = bound.as_int();
  if (at < 0) at = at < -size ? -1 : at + size;
  const int64_t low = backwards ? -1 : 0;
  const int64_t high = backwards ? size - 1 : size;
  if (bound.as_int() < 0 && at < 0) return low;
  return std::clamp(at, low, high);
}

}  // namespace

bool IsTrue(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.as_int() != 0;
    case Kind::kFloat:
      return value.as_float() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !value.items().empty();
    case Kind::kDict:
      return !value.dict().entries.empty();
    case Kind::kDictView:
      return !value.dict_view().dict.dict().entries.empty();
    case Kind::kRange:
      return value.range().size != 0;
    case Kind::kIterator:
    case Kind::kNative:
      return true;
  }
  return true;
}

StatusOr<int64_t> Length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return value.string().num_chars;
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(value.items().size());
    case Kind::kDict:
      return static_cast<int64_t>(value.dict().entries.size());
    case Kind::kDictView:
      return static_cast<int64_t>(value.dict_view().dict.dict().entries.size());
    case Kind::kRange:
      return value.range().size;
    default:
      return InvalidArgument("a " + TypeName(value) + " has no length");
  }
}

StatusOr<bool> Equal(Heap& heap, const Value& a, const Value& b) {
  ROLLCALL_RETURN_IF_ERROR(heap.Step());
  if (a.is_number() && b.is_number()) return CompareNumbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      ROLLCALL_RETURN_IF_ERROR(heap.StepBytes(std::min(a.text().size(), b.text().size())));
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple: {
      if (a.items().size() != b.items().size()) return false;
      for (size_t i = 0; i < a.items().size(); ++i) {
        ROLLCALL_ASSIGN_OR_RETURN(const bool equal, Equal(heap, a.items()[i], b.items()[i]));
        if (!equal) return false;
      }
      return true;
    }
    case Kind::kDict:
      return EqualDicts(heap, a.dict(), b.dict());
    case Kind::kRange:
      return EqualRanges(a.range(), b.range());
    default:
      return a.object() == b.object();
  }
}

StatusOr<bool> Less(Heap& heap, const Value& a, const Value& b) {
  return Compare(heap, CompareOp::kLt, a, b);
}

StatusOr<bool> Compare(Heap& heap, CompareOp op, const Value& a, const Value& b) {
  if (op == CompareOp::kEq) return Equal(heap, a, b);
  if (op == CompareOp::kNe) {
    ROLLCALL_ASSIGN_OR_RETURN(const bool equal, Equal(heap, a, b));
    return !equal;
  }
  ROLLCALL_RETURN_IF_ERROR(heap.Step());
  if (a.is_number() && b.is_number()) return Holds(op, CompareNumbers(a, b));
  if (a.is_string() && b.is_string()) {
    // The order of UTF-8 bytes is the order of code points.
    ROLLCALL_RETURN_IF_ERROR(heap.StepBytes(std::min(a.text().size(), b.text().size())));
    const int order = a.text().compare(b.text());
    return Holds(op, order < 0 ? -1 : (order > 0 ? 1 : 0));
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    return SequenceCompare(heap, op, a.items(), b.items());
  }
  return OperandError(kCompareNames[static_cast<int>(op)], a, b);
}

StatusOr<Value> Arithmetic(Heap& heap, BinaryOp op, const Value& a, const Value& b) {
  if (op == BinaryOp::kMod && a.is_string()) return PercentFormat(heap, a, b);
  if (a.is_integral() && b.is_integral()) return IntegerArithmetic(op, a.as_int(), b.as_int());
  if (a.is_number() && b.is_number()) return FloatArithmetic(op, a.as_float(), b.as_float());
  if (op == BinaryOp::kAdd) {
    if (a.is_string() && b.is_string()) return AddStrings(heap, a, b);
    if (a.is_sequence() && a.kind() == b.kind()) return AddSequences(heap, a, b);
  }
  if (op == BinaryOp::kMul) {
    if ((a.is_string() || a.is_sequence()) && b.is_integral()) return Repeat(heap, a, b.as_int());
    if ((b.is_string() || b.is_sequence()) && a.is_integral()) return Repeat(heap, b, a.as_int());
  }
  return OperandError(kBinaryNames[static_cast<int>(op)], a, b);
}

StatusOr<Value> Negate(const Value& value) {
  if (value.is(Kind::kFloat)) return Value::Float(-value.as_float());
  if (value.is_integral()) return IntegerArithmetic(BinaryOp::kSub, 0, value.as_int());
  if (value.is_undefined()) return UndefinedError(value);
  return InvalidArgument("unary - does not take a " + TypeName(value));
}

StatusOr<Value> Plus(const Value& value) {
  if (value.is(Kind::kFloat)) return value;
  if (value.is_integral()) return Value::Int(value.as_int());
  if (value.is_undefined()) return UndefinedError(value);
  return InvalidArgument("unary + does not take a " + TypeName(value));
}

StatusOr<Value> Slice(Heap& heap, const Value& value, const Value& start, const Value& stop,
                      const Value& step) {
  if (value.is_undefined()) return UndefinedError(value);
  if (!value.is_string() && !value.is_sequence() && !value.is(Kind::kRange)) {
    return InvalidArgument("a " + TypeName(value) + " cannot be sliced");
  }
  int64_t stride = 1;
  if (!step.is_none()) {
    if (!step.is_integral()) {
      return InvalidArgument("slice indices must be integers or None, not " + TypeName(step));
    }
    stride = step.as_int();
    if (stride == 0) return InvalidArgument("slice step cannot be zero");
  }
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t size, Length(value));
  // Past the whole length any stride does the same, and this one is safe to add to.
  stride = std::clamp(stride, -size - 1, size + 1);
  const bool backwards = stride < 0;
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t begin,
                            SliceBound(start, size, backwards, backwards ? size - 1 : 0));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t end,
                            SliceBound(stop, size, backwards, backwards ? -1 : size));
  if (value.is(Kind::kRange)) {
    const RangeObject& range = value.range();
    return heap.Range(range.start + begin * range.step, range.start + end * range.step,
                      range.step * stride);
  }
  if (value.is_string()) {
    const std::string_view text = value.text();
    ROLLCALL_RETURN_IF_ERROR(heap.StepBytes(text.size()));
    if (stride == 1) {
      if (begin >= end) return heap.StringLike(value, "");
      const bool is_ascii = static_cast<size_t>(size) == text.size();
      const size_t first = is_ascii ? static_cast<size_t>(begin) : ByteOffset(text, begin);
      const std::string_view rest = text.substr(first);
      const size_t count =
          is_ascii ? static_cast<size_t>(end - begin) : ByteOffset(rest, end - begin);
      return heap.StringLike(value, std::string(rest.substr(0, count)));
    }
    std::vector<size_t> offsets;
    offsets.reserve(static_cast<size_t>(size) + 1);
    for (size_t i = 0; i < text.size();) {
      offsets.push_back(i);
      NextChar(text, &i);
    }
    offsets.push_back(text.size());
    std::string out;
    for (int64_t i = begin; backwards ? i > end : i < end; i += stride) {
      const auto at = static_cast<size_t>(i);
      out += text.substr(offsets[at], offsets[at + 1] - offsets[at]);
    }
    return heap.StringLike(value, std::move(out));
  }
  std::vector<Value> out;
  for (int64_t i = begin; backwards ? i > end : i < end; i += stride) {
    out.push_back(value.items()[static_cast<size_t>(i)]);
  }
  return value.is(Kind::kList) ? heap.List(std::move(out)) : heap.Tuple(std::move(out));
}

Status UndefinedError(const Value& value) { return InvalidArgument(value.undefined_message()); }

Status OperandError(const char* op, const Value& a, const Value& b) {
  if (a.is_undefined()) return UndefinedError(a);
  if (b.is_undefined()) return UndefinedError(b);
  if (a.is(Kind::kDictView) || b.is(Kind::kDictView)) {
    return Unimplemented(std::string("the set operator ") + op +
                         " of the views of a dict is not supported");
  }
  return InvalidArgument(std::string("the operator ") + op + " does not take " + TypeName(a) +
                         " and " + TypeName(b));
}

}  // namespace rollcall::jinja
