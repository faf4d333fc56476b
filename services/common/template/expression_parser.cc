#include "services/common/template/expression_parser.h"

#include <algorithm>
#include <utility>

namespace rollcall::jinja {
namespace {

ExprPtr NewExpr(ExprKind kind, int line) {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  return expr;
}

template <typename... Children>
ExprPtr NewExpr(ExprKind kind, int line, Children... children) {
  ExprPtr expr = NewExpr(kind, line);
  (expr->children.push_back(std::move(children)), ...);
  return expr;
}

// Constants live as long as the tree, outside of any heap.
Value ConstText(std::string text) {
  auto object = std::make_shared<StringObject>();
  object->num_chars =
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  object->text = std::move(text);
  return Value::Of(Kind::kString, std::move(object));
}

ExprPtr NewConst(Value value, int line) {
  ExprPtr expr = NewExpr(ExprKind::kConst, line);
  expr->value = std::move(value);
  return expr;
}

bool IsAssignable(const Expr& expr) {
  if (expr.kind == ExprKind::kName || expr.kind == ExprKind::kNamespace) return true;
  return expr.kind == ExprKind::kTuple &&
         std::all_of(expr.children.begin(), expr.children.end(),
                     [](const ExprPtr& child) { return IsAssignable(*child); });
}

}  // namespace

Status ExpressionParser::Enter() {
  if (depth_ >= max_depth_) {
    return AtLine(ResourceExhausted("the template is nested deeper than the limit of " +
                                    std::to_string(max_depth_)),
                  stream_.line());
  }
  ++depth_;
  return OkStatus();
}

StatusOr<ExprPtr> ExpressionParser::Done(ExprPtr expr) const {
  int height = 0;
  const auto look = [&](const ExprPtr& child) {
    if (child != nullptr) height = std::max(height, child->height);
  };
  for (const ExprPtr& child : expr->children) look(child);
  for (const ExprPtr& child : expr->positional) look(child);
  for (const Expr::Named& named : expr->named) look(named.value);
  look(expr->star_args);
  look(expr->star_named);
  expr->height = height + 1;
  if (expr->height > max_depth_) {
    return AtLine(ResourceExhausted("an expression is nested deeper than the limit of " +
                                    std::to_string(max_depth_)),
                  expr->line);
  }
  return expr;
}

void ExpressionParser::Watch(const std::string& name) {
  for (Watched& watched : watched_) {
    watched.caller |= name == "caller";
    watched.kwargs |= name == "kwargs";
    watched.varargs |= name == "varargs";
  }
}

StatusOr<ExprPtr> ExpressionParser::ParseExpression(Conditions conditions) {
  return conditions == Conditions::kAllowed ? ParseCondition() : ParseOr();
}

StatusOr<ExprPtr> ExpressionParser::ParseCondition() {
  ROLLCALL_RETURN_IF_ERROR(Enter());
  const int line = stream_.line();
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr expr, ParseOr());
  while (stream_.SkipName("if")) {
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr condition, ParseOr());
    ExprPtr otherwise;
    if (stream_.SkipName("else")) {
      ROLLCALL_ASSIGN_OR_RETURN(otherwise, ParseCondition());
    }
    ROLLCALL_ASSIGN_OR_RETURN(expr, Done(NewExpr(ExprKind::kCondition, line, std::move(expr),
                                                 std::move(condition), std::move(otherwise))));
  }
  Leave();
  return expr;
}

StatusOr<ExprPtr> ExpressionParser::ParseOr() {
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr left, ParseAnd());
  while (stream_.AtName("or")) {
    const int line = stream_.line();
    stream_.Skip();
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr right, ParseAnd());
    ROLLCALL_ASSIGN_OR_RETURN(
        left, Done(NewExpr(ExprKind::kOr, line, std::move(left), std::move(right))));
  }
  return left;
}

StatusOr<ExprPtr> ExpressionParser::ParseAnd() {
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr left, ParseNot());
  while (stream_.AtName("and")) {
    const int line = stream_.line();
    stream_.Skip();
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr right, ParseNot());
    ROLLCALL_ASSIGN_OR_RETURN(
        left, Done(NewExpr(ExprKind::kAnd, line, std::move(left), std::move(right))));
  }
  return left;
}

StatusOr<ExprPtr> ExpressionParser::ParseNot() {
  if (!stream_.AtName("not")) return ParseCompare();
  const int line = stream_.line();
  stream_.Skip();
  ROLLCALL_RETURN_IF_ERROR(Enter());
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr expr, ParseNot());
  Leave();
  return Done(NewExpr(ExprKind::kNot, line, std::move(expr)));
}

StatusOr<ExprPtr> ExpressionParser::ParseCompare() {
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr first, ParseSum());
  ExprPtr compare;
  while (true) {
    CompareOp op = CompareOp::kEq;
    const int line = stream_.line();
    if (stream_.SkipOperator("==")) {
      op = CompareOp::kEq;
    } else if (stream_.SkipOperator("!=")) {
      op = CompareOp::kNe;
    } else if (stream_.SkipOperator("<")) {
      op = CompareOp::kLt;
    } else if (stream_.SkipOperator("<=")) {
      op = CompareOp::kLe;
    } else if (stream_.SkipOperator(">")) {
      op = CompareOp::kGt;
    } else if (stream_.SkipOperator(">=")) {
      op = CompareOp::kGe;
    } else if (stream_.SkipName("in")) {
      op = CompareOp::kIn;
    } else if (stream_.AtName("not") && stream_.NextIsName("in")) {
      stream_.Skip();
      stream_.Skip();
      op = CompareOp::kNotIn;
    } else {
      break;
    }
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr operand, ParseSum());
    if (compare == nullptr) compare = NewExpr(ExprKind::kCompare, line, std::move(first));
    compare->compare_ops.push_back(op);
    compare->children.push_back(std::move(operand));
  }
  if (compare == nullptr) return first;
  return Done(std::move(compare));
}

StatusOr<ExprPtr> ExpressionParser::ParseSum() {
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr left, ParseConcat());
  while (stream_.AtOperator("+") || stream_.AtOperator("-")) {
    const BinaryOp op = stream_.AtOperator("+") ? BinaryOp::kAdd : BinaryOp::kSub;
    const int line = stream_.line();
    stream_.Skip();
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr right, ParseConcat());
    ROLLCALL_ASSIGN_OR_RETURN(
        left, Done(NewExpr(ExprKind::kBinary, line, std::move(left), std::move(right))));
    left->binary_op = op;
  }
  return left;
}

StatusOr<ExprPtr> ExpressionParser::ParseConcat() {
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr first, ParseProduct());
  if (!stream_.AtOperator("~")) return first;
  ExprPtr concat = NewExpr(ExprKind::kConcat, stream_.line(), std::move(first));
  while (stream_.SkipOperator("~")) {
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr part, ParseProduct());
    concat->children.push_back(std::move(part));
  }
  return Done(std::move(concat));
}

StatusOr<ExprPtr> ExpressionParser::ParseProduct() {
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr left, ParsePower());
  while (true) {
    BinaryOp op = BinaryOp::kMul;
    if (stream_.AtOperator("*")) {
      op = BinaryOp::kMul;
    } else if (stream_.AtOperator("/")) {
      op = BinaryOp::kDiv;
    } else if (stream_.AtOperator("//")) {
      op = BinaryOp::kFloorDiv;
    } else if (stream_.AtOperator("%")) {
      op = BinaryOp::kMod;
    } else {
      return left;
    }
    const int line = stream_.line();
    stream_.Skip();
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr right, ParsePower());
    ROLLCALL_ASSIGN_OR_RETURN(
        left, Done(NewExpr(ExprKind::kBinary, line, std::move(left), std::move(right))));
    left->binary_op = op;
  }
}

StatusOr<ExprPtr> ExpressionParser::ParsePower() {
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr left, ParseUnary(true));
  while (stream_.AtOperator("**")) {
    const int line = stream_.line();
    stream_.Skip();
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr right, ParseUnary(true));
    ROLLCALL_ASSIGN_OR_RETURN(
        left, Done(NewExpr(ExprKind::kBinary, line, std::move(left), std::move(right))));
    left->binary_op = BinaryOp::kPow;
  }
  return left;
}

StatusOr<ExprPtr> ExpressionParser::ParseUnary(bool with_filters) {
  ExprPtr expr;
  if (stream_.AtOperator("-") || stream_.AtOperator("+")) {
    const ExprKind kind = stream_.AtOperator("-") ? ExprKind::kNegate : ExprKind::kPlus;
    const int line = stream_.line();
    stream_.Skip();
    ROLLCALL_RETURN_IF_ERROR(Enter());
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr operand, ParseUnary(false));
    Leave();
    ROLLCALL_ASSIGN_OR_RETURN(expr, Done(NewExpr(kind, line, std::move(operand))));
  } else {
    ROLLCALL_ASSIGN_OR_RETURN(expr, ParsePrimary(Attributes::kNotAllowed));
  }
  ROLLCALL_ASSIGN_OR_RETURN(expr, ParsePostfix(std::move(expr)));
  if (with_filters) return ParseFilters(std::move(expr));
  return expr;
}

StatusOr<ExprPtr> ExpressionParser::ParseName(Attributes attributes) {
  const int line = stream_.line();
  const std::string name = stream_.current().text;
  stream_.Skip();
  if (name == "true" || name == "True") return NewConst(Value::Bool(true), line);
  if (name == "false" || name == "False") return NewConst(Value::Bool(false), line);
  if (name == "none" || name == "None") return NewConst(Value::None(), line);
  ExprPtr expr = NewExpr(ExprKind::kName, line);
  expr->name = name;
  if (attributes == Attributes::kAllowed && stream_.SkipOperator(".")) {
    expr->kind = ExprKind::kNamespace;
    ROLLCALL_ASSIGN_OR_RETURN(expr->attribute, stream_.TakeName());
  }
  Watch(name);
  return expr;
}

StatusOr<ExprPtr> ExpressionParser::ParsePrimary(Attributes attributes) {
  const Token& token = stream_.current();
  const int line = token.line;
  switch (token.kind) {
    case TokenKind::kName:
      return ParseName(attributes);
    case TokenKind::kString: {
      std::string text;
      while (stream_.At(TokenKind::kString)) {
        text += stream_.current().text;
        stream_.Skip();
      }
      return NewConst(ConstText(std::move(text)), line);
    }
    case TokenKind::kInteger: {
      const int64_t value = token.integer;
      stream_.Skip();
      return NewConst(Value::Int(value), line);
    }
    case TokenKind::kFloat: {
      const double value = token.number;
      stream_.Skip();
      return NewConst(Value::Float(value), line);
    }
    default:
      break;
  }
  if (stream_.AtOperator("(")) return ParseParenthesis();
  if (stream_.AtOperator("[")) return ParseList();
  if (stream_.AtOperator("{")) return ParseDict();
  return stream_.Expected("an expression");
}

StatusOr<ExprPtr> ExpressionParser::ParseParenthesis() {
  const int line = stream_.line();
  stream_.Skip();
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr expr, ParseItems({}, line, false, Conditions::kAllowed,
                                                     Attributes::kNotAllowed, {}, true));
  ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator(")"));
  return expr;
}

StatusOr<ExprPtr> ExpressionParser::ParseList() {
  ExprPtr list = NewExpr(ExprKind::kList, stream_.line());
  stream_.Skip();
  while (!stream_.AtOperator("]")) {
    if (!list->children.empty()) ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (stream_.AtOperator("]")) break;
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr item, ParseCondition());
    list->children.push_back(std::move(item));
  }
  stream_.Skip();
  return Done(std::move(list));
}

StatusOr<ExprPtr> ExpressionParser::ParseDict() {
  ExprPtr dict = NewExpr(ExprKind::kDict, stream_.line());
  stream_.Skip();
  while (!stream_.AtOperator("}")) {
    if (!dict->children.empty()) ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (stream_.AtOperator("}")) break;
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr key, ParseCondition());
    ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator(":"));
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr value, ParseCondition());
    dict->children.push_back(std::move(key));
    dict->children.push_back(std::move(value));
  }
  stream_.Skip();
  return Done(std::move(dict));
}

bool ExpressionParser::AtTupleEnd(std::string_view end_name) const {
  return stream_.At(TokenKind::kVariableEnd) || stream_.At(TokenKind::kBlockEnd) ||
         stream_.AtOperator(")") || (!end_name.empty() && stream_.AtName(end_name));
}

StatusOr<ExprPtr> ExpressionParser::ParseItems(std::vector<ExprPtr> items, int line, bool simple,
                                               Conditions conditions, Attributes attributes,
                                               std::string_view end_name, bool allow_empty) {
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (AtTupleEnd(end_name)) break;
    StatusOr<ExprPtr> item = simple ? ParsePrimary(attributes) : ParseExpression(conditions);
    ROLLCALL_RETURN_IF_ERROR(item.status());
    items.push_back(*std::move(item));
    if (!stream_.AtOperator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) return std::move(items[0]);
    if (!allow_empty) return stream_.Expected("an expression");
  }
  ExprPtr tuple = NewExpr(ExprKind::kTuple, line);
  tuple->children = std::move(items);
  return Done(std::move(tuple));
}

StatusOr<ExprPtr> ExpressionParser::ParseTuple(Conditions conditions, std::string_view end_name) {
  return ParseItems({}, stream_.line(), false, conditions, Attributes::kNotAllowed, end_name,
                    false);
}

StatusOr<ExprPtr> ExpressionParser::ParseTarget(Attributes attributes, std::string_view end_name) {
  const int line = stream_.line();
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr target, ParseItems({}, line, true, Conditions::kNotAllowed,
                                                       attributes, end_name, false));
  if (!IsAssignable(*target)) {
    return AtLine(InvalidArgument("cannot assign to this: a name, a tuple of names or an attribute "
                                  "of a namespace is needed"),
                  line);
  }
  return target;
}

StatusOr<ExprPtr> ExpressionParser::ParsePostfix(ExprPtr expr) {
  while (true) {
    if (stream_.AtOperator(".") || stream_.AtOperator("[")) {
      ROLLCALL_ASSIGN_OR_RETURN(expr, ParseSubscript(std::move(expr)));
    } else if (stream_.AtOperator("(")) {
      ROLLCALL_ASSIGN_OR_RETURN(expr, ParseCall(std::move(expr)));
    } else {
      return expr;
    }
  }
}

StatusOr<ExprPtr> ExpressionParser::ParseFilters(ExprPtr expr) {
  while (true) {
    if (stream_.AtOperator("|")) {
      ROLLCALL_ASSIGN_OR_RETURN(expr, ParseFilterChain(std::move(expr), false));
    } else if (stream_.AtName("is")) {
      ROLLCALL_ASSIGN_OR_RETURN(expr, ParseTest(std::move(expr)));
    } else if (stream_.AtOperator("(")) {
      ROLLCALL_ASSIGN_OR_RETURN(expr, ParseCall(std::move(expr)));
    } else {
      return expr;
    }
  }
}

StatusOr<ExprPtr> ExpressionParser::ParseSubscript(ExprPtr expr) {
  const int line = stream_.line();
  if (stream_.SkipOperator("[")) return ParseBrackets(std::move(expr), line);
  stream_.Skip();
  if (stream_.At(TokenKind::kInteger)) {
    ExprPtr index = NewConst(Value::Int(stream_.current().integer), line);
    stream_.Skip();
    return Done(NewExpr(ExprKind::kGetItem, line, std::move(expr), std::move(index)));
  }
  ROLLCALL_ASSIGN_OR_RETURN(std::string name, stream_.TakeName());
  ExprPtr attribute = NewExpr(ExprKind::kGetAttr, line, std::move(expr));
  attribute->name = std::move(name);
  return Done(std::move(attribute));
}

StatusOr<ExprPtr> ExpressionParser::ParseBrackets(ExprPtr expr, int line) {
  std::vector<ExprPtr> indices;
  while (!stream_.AtOperator("]")) {
    if (!indices.empty()) ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator(","));
    ExprPtr parts[3];
    int num_colons = 0;
    for (int i = 0; i < 3; ++i) {
      if (!stream_.AtOperator(":") && !stream_.AtOperator("]") && !stream_.AtOperator(",")) {
        ROLLCALL_ASSIGN_OR_RETURN(parts[i], ParseCondition());
      }
      if (i == 2 || !stream_.SkipOperator(":")) break;
      ++num_colons;
    }
    if (num_colons > 0) {
      if (!indices.empty() || !stream_.SkipOperator("]")) {
        return stream_.Error("a slice must stand alone in its brackets");
      }
      for (ExprPtr& part : parts) {
        if (part == nullptr) part = NewConst(Value::None(), line);
      }
      return Done(NewExpr(ExprKind::kSlice, line, std::move(expr), std::move(parts[0]),
                          std::move(parts[1]), std::move(parts[2])));
    }
    if (parts[0] == nullptr) return stream_.Expected("an expression");
    indices.push_back(std::move(parts[0]));
  }
  stream_.Skip();
  ExprPtr index;
  if (indices.size() == 1) {
    index = std::move(indices[0]);
  } else {
    index = NewExpr(ExprKind::kTuple, line);
    index->children = std::move(indices);
    ROLLCALL_ASSIGN_OR_RETURN(index, Done(std::move(index)));
  }
  return Done(NewExpr(ExprKind::kGetItem, line, std::move(expr), std::move(index)));
}

Status ExpressionParser::ParseArguments(Expr* call) {
  ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator("("));
  const auto misplaced = [&] {
    return stream_.Error("the arguments of the call are out of order");
  };
  bool wants_comma = false;
  while (!stream_.AtOperator(")")) {
    if (wants_comma) {
      ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator(","));
      if (stream_.AtOperator(")")) break;
    }
    wants_comma = true;
    if (stream_.AtOperator("*")) {
      if (call->star_args != nullptr || call->star_named != nullptr) return misplaced();
      stream_.Skip();
      ROLLCALL_ASSIGN_OR_RETURN(call->star_args, ParseCondition());
    } else if (stream_.AtOperator("**")) {
      if (call->star_named != nullptr) return misplaced();
      stream_.Skip();
      ROLLCALL_ASSIGN_OR_RETURN(call->star_named, ParseCondition());
    } else if (stream_.At(TokenKind::kName) && stream_.NextIsOperator("=")) {
      if (call->star_named != nullptr) return misplaced();
      Expr::Named named;
      named.name = stream_.current().text;
      for (const Expr::Named& other : call->named) {
        if (other.name == named.name) return stream_.Error("'" + named.name + "' is given twice");
      }
      stream_.Skip();
      stream_.Skip();
      ROLLCALL_ASSIGN_OR_RETURN(named.value, ParseCondition());
      call->named.push_back(std::move(named));
    } else {
      if (call->star_args != nullptr || call->star_named != nullptr || !call->named.empty()) {
        return misplaced();
      }
      ROLLCALL_ASSIGN_OR_RETURN(ExprPtr argument, ParseCondition());
      call->positional.push_back(std::move(argument));
    }
  }
  stream_.Skip();
  return OkStatus();
}

StatusOr<ExprPtr> ExpressionParser::ParseCall(ExprPtr expr) {
  ExprPtr call = NewExpr(ExprKind::kCall, stream_.line(), std::move(expr));
  ROLLCALL_RETURN_IF_ERROR(ParseArguments(call.get()));
  return Done(std::move(call));
}

StatusOr<std::string> ExpressionParser::ParseDottedName() {
  ROLLCALL_ASSIGN_OR_RETURN(std::string name, stream_.TakeName());
  while (stream_.SkipOperator(".")) {
    ROLLCALL_ASSIGN_OR_RETURN(const std::string part, stream_.TakeName());
    name += "." + part;
  }
  return name;
}

StatusOr<ExprPtr> ExpressionParser::ParseFilterChain(ExprPtr value, bool starts_inline) {
  while (starts_inline || stream_.AtOperator("|")) {
    if (!starts_inline) stream_.Skip();
    starts_inline = false;
    ExprPtr filter = NewExpr(ExprKind::kFilter, stream_.line(), std::move(value));
    ROLLCALL_ASSIGN_OR_RETURN(filter->name, ParseDottedName());
    if (stream_.AtOperator("(")) ROLLCALL_RETURN_IF_ERROR(ParseArguments(filter.get()));
    ROLLCALL_ASSIGN_OR_RETURN(value, Done(std::move(filter)));
  }
  return value;
}

StatusOr<ExprPtr> ExpressionParser::ParseTest(ExprPtr expr) {
  const int line = stream_.line();
  stream_.Skip();
  const bool negated = stream_.SkipName("not");
  ExprPtr test = NewExpr(ExprKind::kTest, line, std::move(expr));
  ROLLCALL_ASSIGN_OR_RETURN(test->name, ParseDottedName());
  const TokenKind kind = stream_.current().kind;
  const bool starts_argument = kind == TokenKind::kName || kind == TokenKind::kString ||
                               kind == TokenKind::kInteger || kind == TokenKind::kFloat ||
                               stream_.AtOperator("[") || stream_.AtOperator("{");
  if (stream_.AtOperator("(")) {
    ROLLCALL_RETURN_IF_ERROR(ParseArguments(test.get()));
  } else if (starts_argument && !stream_.AtName("else") && !stream_.AtName("or") &&
             !stream_.AtName("and")) {
    if (stream_.AtName("is")) return stream_.Error("tests cannot be chained with 'is'");
    ROLLCALL_RETURN_IF_ERROR(Enter());
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr argument, ParsePrimary(Attributes::kNotAllowed));
    ROLLCALL_ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    Leave();
    test->positional.push_back(std::move(argument));
  }
  ROLLCALL_ASSIGN_OR_RETURN(test, Done(std::move(test)));
  if (!negated) return test;
  return Done(NewExpr(ExprKind::kNot, line, std::move(test)));
}

}  // namespace rollcall::jinja
