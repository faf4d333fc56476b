// Filters that make numbers, and default.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "services/common/template/arguments.h"
#include "services/common/template/filters.h"
#include "services/common/template/iterate.h"
#include "services/common/template/number_format.h"
#include "services/common/template/operators.h"
#include "services/common/template/value_text.h"

namespace rollcall::jinja {
namespace {

StatusOr<Value> Abs(Interpreter& /*interpreter*/, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("abs", std::move(args), {}));
  if (value.is(Kind::kFloat)) return Value::Float(std::fabs(value.as_float()));
  if (!value.is_integral()) return InvalidArgument("abs takes a number, not a " + TypeName(value));
  return value.as_int() < 0 ? Negate(value) : Plus(value);
}

StatusOr<Value> IntOfFloat(double number) {
  const double whole = std::trunc(number);
  if (!(std::fabs(whole) < 0x1p63)) {
    return InvalidArgument("the float does not fit an integer of 64 bits");
  }
  return Value::Int(static_cast<int64_t>(whole));
}

StatusOr<Value> ToInt(Interpreter& /*interpreter*/, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("int", std::move(args), {"default", "base"}));
  const Value fallback = bound.Or(0, Value::Int(0));
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_integral()) return Value::Int(value.as_int());
  if (value.is(Kind::kFloat)) {
    if (std::isnan(value.as_float())) return fallback;
    return IntOfFloat(value.as_float());
  }
  if (!value.is_string()) return fallback;
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t base, bound.Int(1, 10));
  const bool base_fits = base == 0 || (base >= 2 && base <= 36);
  if (base_fits) {
    ROLLCALL_ASSIGN_OR_RETURN(const auto number, ParseInt(value.text(), static_cast<int>(base)));
    if (number) return Value::Int(*number);
  }
  const auto number = ParseFloat(value.text());
  if (!number || std::isnan(*number) || std::isinf(*number)) return fallback;
  return IntOfFloat(*number);
}

StatusOr<Value> ToFloat(Interpreter& /*interpreter*/, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("float", std::move(args), {"default"}));
  if (value.is_undefined()) return UndefinedError(value);
  if (value.is_number()) return Value::Float(value.as_float());
  if (value.is_string()) {
    if (const auto number = ParseFloat(value.text())) return Value::Float(*number);
  }
  return bound.Or(0, Value::Float(0));
}

// Half to even, for a negative number of digits.
StatusOr<Value> RoundInteger(int64_t value, int64_t precision) {
  if (precision >= 0) return Value::Int(value);
  if (precision < -18) return Value::Int(0);
  int64_t unit = 1;
  for (int64_t i = precision; i < 0; ++i) unit *= 10;
  const int64_t rest = ((value % unit) + unit) % unit;
  int64_t result = 0;
  bool overflow = __builtin_sub_overflow(value, rest, &result);
  const bool is_odd = (result / unit) % 2 != 0;
  if (rest > unit - rest || (rest == unit - rest && is_odd)) {
    overflow |= __builtin_add_overflow(result, unit, &result);
  }
  if (overflow) return InvalidArgument("the rounded integer does not fit 64 bits");
  return Value::Int(result);
}

double RoundFloat(double value, int64_t precision) {
  if (!std::isfinite(value) || value == 0) return value;
  if (precision > 323) return value;
  if (precision < -308) return std::copysign(0.0, value);
  if (precision < 0) {
    // The decimal digits of the number are exact, so rounding them is.
    const std::string digits = FormatFloat(value, 'f', 0, false);
    const auto keep = static_cast<int64_t>(digits.size()) + precision;
    if (keep < 0) return std::copysign(0.0, value);
    const double power = std::pow(10.0, static_cast<double>(-precision));
    return std::copysign(std::nearbyint(std::fabs(value) / power) * power, value);
  }
  const double rounded =
      std::strtod(FormatFloat(value, 'f', static_cast<int>(precision), false).c_str(), nullptr);
  return std::copysign(rounded, value);
}

StatusOr<Value> Round(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("round", std::move(args), {"precision", "method"}));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t precision, bound.Int(0, 0));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view method, bound.Text(1, "common"));
  if (method != "common" && method != "ceil" && method != "floor") {
    return InvalidArgument("round: the method must be common, ceil or floor");
  }
  if (!value.is_number()) {
    if (value.is_undefined()) return UndefinedError(value);
    return InvalidArgument("round takes a number, not a " + TypeName(value));
  }
  if (method == "common") {
    if (value.is_integral()) return RoundInteger(value.as_int(), precision);
    return Value::Float(RoundFloat(value.as_float(), precision));
  }
  Heap& heap = interpreter.heap();
  ROLLCALL_ASSIGN_OR_RETURN(
      const Value power, Arithmetic(heap, BinaryOp::kPow, Value::Int(10), Value::Int(precision)));
  ROLLCALL_ASSIGN_OR_RETURN(const Value scaled, Arithmetic(heap, BinaryOp::kMul, value, power));
  Value whole = scaled;
  if (scaled.is(Kind::kFloat)) {
    const double number = scaled.as_float();
    ROLLCALL_ASSIGN_OR_RETURN(
        whole, IntOfFloat(method == "ceil" ? std::ceil(number) : std::floor(number)));
  }
  return Arithmetic(heap, BinaryOp::kDiv, whole, power);
}

StatusOr<Value> LengthFilter(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("length", std::move(args), {}));
  if (value.is(Kind::kNative)) {
    Value length;
    ROLLCALL_ASSIGN_OR_RETURN(const bool found,
                              value.native().GetAttribute(interpreter, "length", &length));
    if (found) return length;
  }
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t length, Length(value));
  return Value::Int(length);
}

StatusOr<Value> Sum(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("sum", std::move(args), {"attribute", "start"}));
  Value total = bound.Or(1, Value::Int(0));
  if (total.is_string()) return InvalidArgument("sum cannot add texts: use join");
  ROLLCALL_ASSIGN_OR_RETURN(const auto items, Collect(interpreter, value));
  for (const Value& each : items) {
    Value item = each;
    if (bound.Has(0) && !bound[0].is_none()) {
      ROLLCALL_ASSIGN_OR_RETURN(item, AttributePath(interpreter, item, bound[0], nullptr));
    }
    ROLLCALL_ASSIGN_OR_RETURN(total, Arithmetic(interpreter.heap(), BinaryOp::kAdd, total, item));
  }
  return total;
}

StatusOr<Value> Default(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("default", std::move(args), {"default_value", "boolean"}));
  if (!value.is_undefined() && (!bound.IsTrue(1) || IsTrue(value))) return value;
  if (bound.Has(0)) return bound[0];
  return interpreter.heap().String("");
}

constexpr NamedFilter kFilters[] = {
    {"abs", Abs},       {"count", LengthFilter}, {"d", Default},           {"default", Default},
    {"float", ToFloat}, {"int", ToInt},          {"length", LengthFilter}, {"round", Round},
    {"sum", Sum},
};

}  // namespace

FilterFn FindNumberFilter(std::string_view name) {
  const auto* it = std::find_if(std::begin(kFilters), std::end(kFilters),
                                [&](const NamedFilter& filter) { return filter.name == name; });
  return it == std::end(kFilters) ? nullptr : it->fn;
}

}  // namespace rollcall::jinja
