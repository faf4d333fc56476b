#include "services/common/template/predicates.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "services/common/template/arguments.h"
#include "services/common/template/filters.h"
#include "services/common/template/iterate.h"
#include "services/common/template/methods.h"
#include "services/common/template/operators.h"
#include "services/common/template/value_text.h"

namespace rollcall::jinja {
namespace {

bool IsDefined(const Value& value) { return !value.is_undefined(); }
bool IsUndefined(const Value& value) { return value.is_undefined(); }
bool IsNone(const Value& value) { return value.is_none(); }
bool IsBoolean(const Value& value) { return value.is(Kind::kBool); }
bool IsTrueTest(const Value& value) { return value.is(Kind::kBool) && value.as_bool(); }
bool IsFalseTest(const Value& value) { return value.is(Kind::kBool) && !value.as_bool(); }
bool IsInteger(const Value& value) { return value.is(Kind::kInt); }
bool IsFloat(const Value& value) { return value.is(Kind::kFloat); }
bool IsNumber(const Value& value) { return value.is_number(); }
bool IsString(const Value& value) { return value.is_string(); }
bool IsMapping(const Value& value) { return value.is(Kind::kDict); }
bool IsSequence(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() ||
         value.is(Kind::kDict) || value.is(Kind::kRange);
}
bool IsEscaped(const Value& value) { return value.is_string() && value.string().is_markup; }
bool IsCallable(const Value& value) {
  return value.is_undefined() || (value.is(Kind::kNative) && value.native().is_callable());
}

template <bool (*holds)(const Value&)>
StatusOr<bool> Simple(Interpreter& /*interpreter*/, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("the test", std::move(args), {}));
  return holds(value);
}

template <CompareOp op>
StatusOr<bool> Comparison(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("the test", std::move(args), {""}, 1));
  return Compare(interpreter.heap(), op, value, bound[0]);
}

StatusOr<bool> RemainderIs(Interpreter& interpreter, const Value& value, const Value& divisor,
                           int64_t wanted) {
  ROLLCALL_ASSIGN_OR_RETURN(const Value rest,
                            Arithmetic(interpreter.heap(), BinaryOp::kMod, value, divisor));
  return Equal(interpreter.heap(), rest, Value::Int(wanted));
}

template <int wanted>
StatusOr<bool> Parity(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("the test", std::move(args), {}));
  return RemainderIs(interpreter, value, Value::Int(2), wanted);
}

StatusOr<bool> DivisibleBy(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("divisibleby", std::move(args), {"num"}, 1));
  return RemainderIs(interpreter, value, bound[0], 0);
}

StatusOr<bool> In(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("in", std::move(args), {"seq"}, 1));
  return interpreter.Contains(bound[0], value);
}

StatusOr<bool> SameAs(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("sameas", std::move(args), {"other"}, 1));
  if (value.kind() != bound[0].kind()) return false;
  if (value.object() != nullptr || value.is_undefined()) return value.object() == bound[0].object();
  return Equal(interpreter.heap(), value, bound[0]);
}

StatusOr<bool> Iterable(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("iterable", std::move(args), {}));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Step());
  return IsIterable(value);
}

template <CharFlag wanted>
StatusOr<bool> CaseIs(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("the test", std::move(args), {}));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text, Str(interpreter.heap(), value));
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().StepBytes(text.size() * 4));
  return IsAllCase(text, wanted);
}

StatusOr<bool> IsFilterName(Interpreter& /*interpreter*/, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("filter", std::move(args), {}));
  if (!Heap::IsHashable(value)) return InvalidArgument("a " + TypeName(value) + " is no name");
  return value.is_string() && FindFilter(value.text()) != nullptr;
}

StatusOr<bool> IsTestName(Interpreter& /*interpreter*/, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("test", std::move(args), {}));
  if (!Heap::IsHashable(value)) return InvalidArgument("a " + TypeName(value) + " is no name");
  return value.is_string() && FindPredicate(value.text()) != nullptr;
}

struct NamedPredicate {
  std::string_view name;
  PredicateFn fn;
};
constexpr NamedPredicate kPredicates[] = {
    {"odd", Parity<1>},
    {"even", Parity<0>},
    {"divisibleby", DivisibleBy},
    {"defined", Simple<IsDefined>},
    {"undefined", Simple<IsUndefined>},
    {"filter", IsFilterName},
    {"test", IsTestName},
    {"none", Simple<IsNone>},
    {"boolean", Simple<IsBoolean>},
    {"false", Simple<IsFalseTest>},
    {"true", Simple<IsTrueTest>},
    {"integer", Simple<IsInteger>},
    {"float", Simple<IsFloat>},
    {"lower", CaseIs<kLowerCase>},
    {"upper", CaseIs<kUpperCase>},
    {"string", Simple<IsString>},
    {"mapping", Simple<IsMapping>},
    {"number", Simple<IsNumber>},
    {"sequence", Simple<IsSequence>},
    {"iterable", Iterable},
    {"callable", Simple<IsCallable>},
    {"sameas", SameAs},
    {"escaped", Simple<IsEscaped>},
    {"in", In},
    {"==", Comparison<CompareOp::kEq>},
    {"eq", Comparison<CompareOp::kEq>},
    {"equalto", Comparison<CompareOp::kEq>},
    {"!=", Comparison<CompareOp::kNe>},
    {"ne", Comparison<CompareOp::kNe>},
    {">", Comparison<CompareOp::kGt>},
    {"gt", Comparison<CompareOp::kGt>},
    {"greaterthan", Comparison<CompareOp::kGt>},
    {"ge", Comparison<CompareOp::kGe>},
    {">=", Comparison<CompareOp::kGe>},
    {"<", Comparison<CompareOp::kLt>},
    {"lt", Comparison<CompareOp::kLt>},
    {"lessthan", Comparison<CompareOp::kLt>},
    {"<=", Comparison<CompareOp::kLe>},
    {"le", Comparison<CompareOp::kLe>},
};

}  // namespace

PredicateFn FindPredicate(std::string_view name) {
  const auto* it = std::find_if(std::begin(kPredicates), std::end(kPredicates),
                                [&](const NamedPredicate& entry) { return entry.name == name; });
  return it == std::end(kPredicates) ? nullptr : it->fn;
}

}  // namespace rollcall::jinja
