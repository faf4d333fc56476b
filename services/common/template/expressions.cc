// Evaluation of expressions.
#include <algorithm>
#include <cmath>
#include <utility>

#include "services/common/template/check_names.h"
#include "services/common/template/filters.h"
#include "services/common/template/interpreter.h"
#include "services/common/template/iterate.h"
#include "services/common/template/operators.h"
#include "services/common/template/predicates.h"
#include "services/common/template/text_search.h"
#include "services/common/template/value_text.h"

namespace rollcall::jinja {

StatusOr<Value> Interpreter::Eval(const Expr& expr, const ScopePtr& scope) {
  if (expr.kind == ExprKind::kConst) return expr.value;
  const Level level(*this);
  ROLLCALL_RETURN_IF_ERROR(level.Check());
  ROLLCALL_RETURN_IF_ERROR(heap_.Step());
  StatusOr<Value> value = EvalKind(expr, scope);
  if (!value.ok() && error_line_ == 0) error_line_ = expr.line;
  return value;
}

StatusOr<Value> Interpreter::EvalKind(const Expr& expr, const ScopePtr& scope) {
  switch (expr.kind) {
    case ExprKind::kConst:
      return expr.value;
    case ExprKind::kName:
      return Lookup(expr.name, scope);
    case ExprKind::kNamespace:
      return InvalidArgument("an attribute of a namespace is no value here");
    case ExprKind::kList: {
      ROLLCALL_ASSIGN_OR_RETURN(std::vector<Value> items, EvalAll(expr.children, scope));
      return heap_.List(std::move(items));
    }
    case ExprKind::kTuple: {
      ROLLCALL_ASSIGN_OR_RETURN(std::vector<Value> items, EvalAll(expr.children, scope));
      return heap_.Tuple(std::move(items));
    }
    case ExprKind::kDict:
      return EvalDict(expr, scope);
    case ExprKind::kGetAttr: {
      ROLLCALL_ASSIGN_OR_RETURN(const Value object, Eval(*expr.children[0], scope));
      return GetAttribute(object, expr.name);
    }
    case ExprKind::kGetItem: {
      ROLLCALL_ASSIGN_OR_RETURN(const Value object, Eval(*expr.children[0], scope));
      ROLLCALL_ASSIGN_OR_RETURN(const Value key, Eval(*expr.children[1], scope));
      return GetItem(object, key);
    }
    case ExprKind::kSlice:
      return EvalSlice(expr, scope);
    case ExprKind::kCall:
      return EvalCall(expr, scope);
    case ExprKind::kFilter:
      return EvalFilter(expr, scope, nullptr);
    case ExprKind::kTest:
      return EvalTest(expr, scope);
    case ExprKind::kNot: {
      ROLLCALL_ASSIGN_OR_RETURN(const Value value, Eval(*expr.children[0], scope));
      return Value::Bool(!IsTrue(value));
    }
    case ExprKind::kNegate: {
      ROLLCALL_ASSIGN_OR_RETURN(const Value value, Eval(*expr.children[0], scope));
      return Negate(value);
    }
    case ExprKind::kPlus: {
      ROLLCALL_ASSIGN_OR_RETURN(const Value value, Eval(*expr.children[0], scope));
      return Plus(value);
    }
    case ExprKind::kBinary:
      return EvalBinary(expr, scope);
    case ExprKind::kConcat:
      return EvalConcat(expr, scope);
    case ExprKind::kCompare:
      return EvalCompare(expr, scope);
    case ExprKind::kAnd:
    case ExprKind::kOr:
      return EvalLogic(expr, scope);
    case ExprKind::kCondition:
      return EvalCondition(expr, scope);
  }
  return Internal("unknown expression");
}

StatusOr<std::vector<Value>> Interpreter::EvalAll(const std::vector<ExprPtr>& exprs,
                                                  const ScopePtr& scope) {
  std::vector<Value> values;
  values.reserve(exprs.size());
  for (const ExprPtr& expr : exprs) {
    ROLLCALL_ASSIGN_OR_RETURN(Value value, Eval(*expr, scope));
    values.push_back(std::move(value));
  }
  return values;
}

StatusOr<Value> Interpreter::EvalDict(const Expr& expr, const ScopePtr& scope) {
  std::vector<DictObject::Entry> entries;
  for (size_t i = 0; i + 1 < expr.children.size(); i += 2) {
    ROLLCALL_ASSIGN_OR_RETURN(Value key, Eval(*expr.children[i], scope));
    ROLLCALL_ASSIGN_OR_RETURN(Value value, Eval(*expr.children[i + 1], scope));
    entries.emplace_back(std::move(key), std::move(value));
  }
  return heap_.Dict(std::move(entries));
}

StatusOr<CallArgs> Interpreter::EvalArgs(const Expr& expr, const ScopePtr& scope) {
  CallArgs args;
  ROLLCALL_ASSIGN_OR_RETURN(args.positional, EvalAll(expr.positional, scope));
  for (const Expr::Named& named : expr.named) {
    ROLLCALL_ASSIGN_OR_RETURN(Value value, Eval(*named.value, scope));
    args.named.emplace_back(named.name, std::move(value));
  }
  if (expr.star_args != nullptr) {
    ROLLCALL_ASSIGN_OR_RETURN(const Value star, Eval(*expr.star_args, scope));
    ROLLCALL_ASSIGN_OR_RETURN(const std::vector<Value> items, Collect(*this, star));
    args.positional.insert(args.positional.end(), items.begin(), items.end());
  }
  if (expr.star_named != nullptr) {
    ROLLCALL_ASSIGN_OR_RETURN(const Value star, Eval(*expr.star_named, scope));
    if (!star.is(Kind::kDict)) {
      return InvalidArgument("the argument after ** must be a mapping, not " + TypeName(star));
    }
    for (const auto& [key, value] : star.dict().entries) {
      if (!key.is_string()) return InvalidArgument("the keys after ** must be texts");
      for (const auto& [name, unused] : args.named) {
        if (name == key.text()) return InvalidArgument("an argument is given twice: " + name);
      }
      args.named.emplace_back(std::string(key.text()), value);
    }
  }
  return args;
}

StatusOr<Value> Interpreter::EvalCall(const Expr& expr, const ScopePtr& scope) {
  ROLLCALL_ASSIGN_OR_RETURN(const Value callee, Eval(*expr.children[0], scope));
  ROLLCALL_ASSIGN_OR_RETURN(CallArgs args, EvalArgs(expr, scope));
  return Call(callee, std::move(args));
}

StatusOr<Value> Interpreter::Call(const Value& callee, CallArgs args) {
  if (callee.is_undefined()) return UndefinedError(callee);
  if (!callee.is(Kind::kNative)) {
    return InvalidArgument("a " + TypeName(callee) + " is not callable");
  }
  return callee.native().Call(*this, std::move(args));
}

StatusOr<Value> Interpreter::EvalFilter(const Expr& expr, const ScopePtr& scope,
                                        const Value* block) {
  Value value;
  if (expr.children[0] == nullptr) {
    if (block == nullptr) return Internal("a filter without a value");
    value = *block;
  } else if (block != nullptr && expr.children[0]->kind == ExprKind::kFilter) {
    ROLLCALL_ASSIGN_OR_RETURN(value, EvalFilter(*expr.children[0], scope, block));
  } else {
    ROLLCALL_ASSIGN_OR_RETURN(value, Eval(*expr.children[0], scope));
  }
  ROLLCALL_ASSIGN_OR_RETURN(CallArgs args, EvalArgs(expr, scope));
  return CallFilter(expr.name, value, std::move(args));
}

StatusOr<Value> Interpreter::CallFilter(const std::string& name, const Value& value,
                                        CallArgs args) {
  const FilterFn filter = FindFilter(name);
  if (filter == nullptr) return UnknownFilter(name);
  return filter(*this, value, std::move(args));
}

StatusOr<Value> Interpreter::EvalTest(const Expr& expr, const ScopePtr& scope) {
  ROLLCALL_ASSIGN_OR_RETURN(const Value value, Eval(*expr.children[0], scope));
  ROLLCALL_ASSIGN_OR_RETURN(CallArgs args, EvalArgs(expr, scope));
  ROLLCALL_ASSIGN_OR_RETURN(const bool holds, CallTest(expr.name, value, std::move(args)));
  return Value::Bool(holds);
}

StatusOr<bool> Interpreter::CallTest(const std::string& name, const Value& value, CallArgs args) {
  const PredicateFn predicate = FindPredicate(name);
  if (predicate == nullptr) return UnknownTest(name);
  return predicate(*this, value, std::move(args));
}

StatusOr<Value> Interpreter::EvalBinary(const Expr& expr, const ScopePtr& scope) {
  ROLLCALL_ASSIGN_OR_RETURN(const Value left, Eval(*expr.children[0], scope));
  ROLLCALL_ASSIGN_OR_RETURN(const Value right, Eval(*expr.children[1], scope));
  return Arithmetic(heap_, expr.binary_op, left, right);
}

StatusOr<Value> Interpreter::EvalConcat(const Expr& expr, const ScopePtr& scope) {
  std::string out;
  for (const ExprPtr& child : expr.children) {
    ROLLCALL_ASSIGN_OR_RETURN(const Value value, Eval(*child, scope));
    ROLLCALL_ASSIGN_OR_RETURN(const std::string text, Str(heap_, value));
    ROLLCALL_RETURN_IF_ERROR(heap_.CheckStringBytes(out.size() + text.size()));
    out += text;
  }
  return heap_.String(std::move(out));
}

StatusOr<Value> Interpreter::EvalCompare(const Expr& expr, const ScopePtr& scope) {
  ROLLCALL_ASSIGN_OR_RETURN(Value left, Eval(*expr.children[0], scope));
  for (size_t i = 0; i < expr.compare_ops.size(); ++i) {
    ROLLCALL_ASSIGN_OR_RETURN(Value right, Eval(*expr.children[i + 1], scope));
    const CompareOp op = expr.compare_ops[i];
    bool holds = false;
    if (op == CompareOp::kIn || op == CompareOp::kNotIn) {
      ROLLCALL_ASSIGN_OR_RETURN(const bool contains, Contains(right, left));
      holds = contains == (op == CompareOp::kIn);
    } else {
      ROLLCALL_ASSIGN_OR_RETURN(holds, Compare(heap_, op, left, right));
    }
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

StatusOr<Value> Interpreter::EvalLogic(const Expr& expr, const ScopePtr& scope) {
  ROLLCALL_ASSIGN_OR_RETURN(Value left, Eval(*expr.children[0], scope));
  if (IsTrue(left) == (expr.kind == ExprKind::kOr)) return left;
  return Eval(*expr.children[1], scope);
}

StatusOr<Value> Interpreter::EvalSlice(const Expr& expr, const ScopePtr& scope) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::vector<Value> parts, EvalAll(expr.children, scope));
  return Slice(heap_, parts[0], parts[1], parts[2], parts[3]);
}

StatusOr<Value> Interpreter::EvalCondition(const Expr& expr, const ScopePtr& scope) {
  ROLLCALL_ASSIGN_OR_RETURN(const Value test, Eval(*expr.children[1], scope));
  if (IsTrue(test)) return Eval(*expr.children[0], scope);
  if (expr.children[2] != nullptr) return Eval(*expr.children[2], scope);
  return Value::Undefined("the inline if was false and has no else");
}

StatusOr<bool> Interpreter::Contains(const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString:
      if (!item.is_string()) {
        return InvalidArgument("'in' a text wants a text on its left, not " + TypeName(item));
      }
      ROLLCALL_RETURN_IF_ERROR(heap_.StepBytes(container.text().size()));
      return FindText(container.text(), item.text()) != std::string_view::npos;
    case Kind::kDict: {
      if (!Heap::IsHashable(item)) {
        return InvalidArgument("a " + TypeName(item) + " cannot be the key of a dict");
      }
      ROLLCALL_ASSIGN_OR_RETURN(const Value* found, heap_.Find(container.dict(), item));
      return found != nullptr;
    }
    case Kind::kDictView:
      if (container.dict_view().what == DictViewObject::What::kKeys) {
        return Contains(container.dict_view().dict, item);
      }
      break;
    case Kind::kRange: {
      if (!item.is_number()) return false;
      const RangeObject& range = container.range();
      const double number = item.as_float();
      if (!(std::fabs(number) < 0x1p62)) return false;
      const auto whole = static_cast<int64_t>(number);
      if (static_cast<double>(whole) != number || range.size == 0) return false;
      const int64_t last = range.start + (range.size - 1) * range.step;
      const auto [low, high] = std::minmax(range.start, last);
      return whole >= low && whole <= high && (whole - range.start) % range.step == 0;
    }
    default:
      break;
  }
  ROLLCALL_ASSIGN_OR_RETURN(const auto iterator, Iterate(*this, container));
  Value value;
  while (true) {
    ROLLCALL_ASSIGN_OR_RETURN(const bool more, iterator->Next(*this, &value));
    if (!more) return false;
    ROLLCALL_ASSIGN_OR_RETURN(const bool equal, Equal(heap_, value, item));
    if (equal) return true;
  }
}

}  // namespace rollcall::jinja
