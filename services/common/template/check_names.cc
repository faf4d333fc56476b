#include "services/common/template/check_names.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "services/common/template/filters.h"
#include "services/common/template/lexer.h"
#include "services/common/template/predicates.h"

namespace rollcall::jinja {
namespace {

// Whether what is looked at runs only under a condition.
enum class Guard { kNone, kCondition };

Status CheckExpr(const Expr& expr, Guard guard);

Status CheckExprs(const std::vector<ExprPtr>& exprs, Guard guard) {
  for (const ExprPtr& expr : exprs) {
    if (expr != nullptr) ROLLCALL_RETURN_IF_ERROR(CheckExpr(*expr, guard));
  }
  return OkStatus();
}

Status CheckExpr(const Expr& expr, Guard guard) {
  if (guard == Guard::kNone) {
    if (expr.kind == ExprKind::kFilter && FindFilter(expr.name) == nullptr) {
      return AtLine(UnknownFilter(expr.name), expr.line);
    }
    if (expr.kind == ExprKind::kTest && FindPredicate(expr.name) == nullptr) {
      return AtLine(UnknownTest(expr.name), expr.line);
    }
  }
  if (expr.kind == ExprKind::kCondition) guard = Guard::kCondition;
  ROLLCALL_RETURN_IF_ERROR(CheckExprs(expr.children, guard));
  ROLLCALL_RETURN_IF_ERROR(CheckExprs(expr.positional, guard));
  for (const Expr::Named& named : expr.named) {
    ROLLCALL_RETURN_IF_ERROR(CheckExpr(*named.value, guard));
  }
  if (expr.star_args != nullptr) ROLLCALL_RETURN_IF_ERROR(CheckExpr(*expr.star_args, guard));
  if (expr.star_named != nullptr) ROLLCALL_RETURN_IF_ERROR(CheckExpr(*expr.star_named, guard));
  return OkStatus();
}

Status CheckBody(const Body& body, Guard guard) {
  for (const StmtPtr& stmt : body) {
    // A condition covers its branches; whatever opens a scope inside starts anew.
    const Guard here = stmt->kind == StmtKind::kIf ? Guard::kCondition : guard;
    const Guard inner = stmt->kind == StmtKind::kIf ? Guard::kCondition : Guard::kNone;
    ROLLCALL_RETURN_IF_ERROR(CheckExprs(stmt->exprs, here));
    if (stmt->condition != nullptr) {
      ROLLCALL_RETURN_IF_ERROR(CheckExpr(*stmt->condition, inner));
    }
    ROLLCALL_RETURN_IF_ERROR(CheckExprs(stmt->signature.defaults, inner));
    ROLLCALL_RETURN_IF_ERROR(CheckBody(stmt->body, inner));
    ROLLCALL_RETURN_IF_ERROR(CheckBody(stmt->else_body, inner));
    for (const Body& branch : stmt->bodies) ROLLCALL_RETURN_IF_ERROR(CheckBody(branch, inner));
  }
  return OkStatus();
}

}  // namespace

Status CheckNames(const SyntaxTree& tree) { return CheckBody(tree.body, Guard::kNone); }

Status UnknownFilter(const std::string& name) {
  constexpr std::string_view kRefused[] = {"filesizeformat", "pprint",   "random",  "striptags",
                                           "urlize",         "wordwrap", "xmlattr", "forceescape"};
  if (std::find(std::begin(kRefused), std::end(kRefused), name) != std::end(kRefused)) {
    return Unimplemented("the filter '" + name + "' is not supported");
  }
  return InvalidArgument("there is no filter named '" + name + "'");
}

Status UnknownTest(const std::string& name) {
  return InvalidArgument("there is no test named '" + name + "'");
}

}  // namespace rollcall::jinja
