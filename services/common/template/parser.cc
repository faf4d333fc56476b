#include "services/common/template/parser.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

#include "services/common/template/check_names.h"
#include "services/common/template/expression_parser.h"
#include "services/common/template/lexer.h"
#include "services/common/template/token_stream.h"

namespace rollcall::jinja {
namespace {

using Names = std::initializer_list<std::string_view>;
using Attributes = ExpressionParser::Attributes;
using Conditions = ExpressionParser::Conditions;

StmtPtr NewStmt(StmtKind kind, int line) {
  auto stmt = std::make_unique<Stmt>();
  stmt->kind = kind;
  stmt->line = line;
  return stmt;
}

bool Assigns(const Expr& target, std::string_view name) {
  if (target.kind == ExprKind::kName) return target.name == name;
  return std::any_of(target.children.begin(), target.children.end(),
                     [&](const ExprPtr& child) { return Assigns(*child, name); });
}

class StatementParser {
 public:
  StatementParser(const std::vector<Token>& tokens, const TemplateLimits& limits)
      : stream_(tokens), expressions_(stream_, limits.max_syntax_depth) {}

  StatusOr<SyntaxTree> Run();

 private:
  StatusOr<Body> ParseBody(Names ends);
  // Behind a tag's own expressions: the end of the tag, and the body up to one of `ends`.
  StatusOr<Body> ParseBlock(Names ends);
  // The same up to its only end, which is skipped.
  StatusOr<Body> ParseWholeBlock(std::string_view end);
  StatusOr<StmtPtr> ParseStatement();
  StatusOr<StmtPtr> ParseSet();
  StatusOr<StmtPtr> ParseFor();
  StatusOr<StmtPtr> ParseIf();
  StatusOr<StmtPtr> ParseWith();
  StatusOr<StmtPtr> ParseMacro();
  StatusOr<StmtPtr> ParseCallBlock();
  StatusOr<StmtPtr> ParseFilterBlock();
  StatusOr<StmtPtr> ParseGeneration();
  StatusOr<StmtPtr> ParsePrint();
  StatusOr<StmtPtr> ParseLoopControl(StmtKind kind);
  Status ParseSignature(Signature* signature);
  Status ParseClosure(std::string_view end, Stmt* stmt);
  Status CheckTarget(const Expr& target) const;
  Status UnknownTag(const std::string& name) const;

  TokenStream stream_;
  ExpressionParser expressions_;
  SyntaxTree tree_;
  int loop_depth_ = 0;  // loops around, up to the next macro
  int all_loops_ = 0;   // loops around, macros or not
};

StatusOr<SyntaxTree> StatementParser::Run() {
  ROLLCALL_ASSIGN_OR_RETURN(tree_.body, ParseBody({}));
  return std::move(tree_);
}

StatusOr<Body> StatementParser::ParseBody(Names ends) {
  ROLLCALL_RETURN_IF_ERROR(expressions_.Enter());
  Body body;
  const auto output = [&](ExprPtr expr) {
    if (body.empty() || body.back()->kind != StmtKind::kOutput) {
      body.push_back(NewStmt(StmtKind::kOutput, expr->line));
    }
    body.back()->exprs.push_back(std::move(expr));
  };
  while (!stream_.At(TokenKind::kEnd)) {
    if (stream_.At(TokenKind::kData)) {
      auto data = std::make_unique<Expr>();
      data->line = stream_.line();
      auto object = std::make_shared<StringObject>();
      object->text = stream_.current().text;
      data->value = Value::Of(Kind::kString, std::move(object));
      output(std::move(data));
      stream_.Skip();
    } else if (stream_.At(TokenKind::kVariableBegin)) {
      stream_.Skip();
      ROLLCALL_ASSIGN_OR_RETURN(ExprPtr expr, expressions_.ParseTuple());
      output(std::move(expr));
      ROLLCALL_RETURN_IF_ERROR(stream_.Expect(TokenKind::kVariableEnd));
    } else {
      ROLLCALL_RETURN_IF_ERROR(stream_.Expect(TokenKind::kBlockBegin));
      const bool ended = std::any_of(ends.begin(), ends.end(),
                                     [&](std::string_view end) { return stream_.AtName(end); });
      if (ended) {
        expressions_.Leave();
        return body;
      }
      ROLLCALL_ASSIGN_OR_RETURN(StmtPtr stmt, ParseStatement());
      body.push_back(std::move(stmt));
      ROLLCALL_RETURN_IF_ERROR(stream_.Expect(TokenKind::kBlockEnd));
    }
  }
  if (ends.size() != 0) return stream_.Expected("{% " + std::string(*ends.begin()) + " %}");
  expressions_.Leave();
  return body;
}

StatusOr<Body> StatementParser::ParseBlock(Names ends) {
  stream_.SkipOperator(":");
  ROLLCALL_RETURN_IF_ERROR(stream_.Expect(TokenKind::kBlockEnd));
  return ParseBody(ends);
}

StatusOr<Body> StatementParser::ParseWholeBlock(std::string_view end) {
  ROLLCALL_ASSIGN_OR_RETURN(Body body, ParseBlock({end}));
  stream_.Skip();
  return body;
}

Status StatementParser::UnknownTag(const std::string& name) const {
  constexpr std::string_view kRefused[] = {"import", "include",    "extends", "from",
                                           "block",  "autoescape", "do",      "debug",
                                           "trans",  "pluralize"};
  if (std::find(std::begin(kRefused), std::end(kRefused), name) != std::end(kRefused)) {
    return AtLine(Unimplemented("{% " + name +
                                " %} is not supported: a chat template is one file "
                                "that renders by itself"),
                  stream_.line());
  }
  return stream_.Error("unknown tag '" + name + "'");
}

StatusOr<StmtPtr> StatementParser::ParseStatement() {
  if (!stream_.At(TokenKind::kName)) return stream_.Expected("the name of a tag");
  const std::string name = stream_.current().text;
  if (name == "set") return ParseSet();
  if (name == "for") return ParseFor();
  if (name == "if") return ParseIf();
  if (name == "with") return ParseWith();
  if (name == "macro") return ParseMacro();
  if (name == "call") return ParseCallBlock();
  if (name == "filter") return ParseFilterBlock();
  if (name == "generation") return ParseGeneration();
  if (name == "print") return ParsePrint();
  if (name == "break") return ParseLoopControl(StmtKind::kBreak);
  if (name == "continue") return ParseLoopControl(StmtKind::kContinue);
  return UnknownTag(name);
}

Status StatementParser::CheckTarget(const Expr& target) const {
  if (all_loops_ > 0 && Assigns(target, "loop")) {
    return AtLine(InvalidArgument("cannot assign to 'loop' inside of a loop"), target.line);
  }
  return OkStatus();
}

StatusOr<StmtPtr> StatementParser::ParseSet() {
  StmtPtr stmt = NewStmt(StmtKind::kSet, stream_.line());
  stream_.Skip();
  ROLLCALL_ASSIGN_OR_RETURN(stmt->target, expressions_.ParseTarget(Attributes::kAllowed));
  ROLLCALL_RETURN_IF_ERROR(CheckTarget(*stmt->target));
  if (stream_.SkipOperator("=")) {
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr value, expressions_.ParseTuple());
    stmt->exprs.push_back(std::move(value));
    return stmt;
  }
  stmt->kind = StmtKind::kSetBlock;
  if (stream_.AtOperator("|")) {
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr filter, expressions_.ParseFilterChain(nullptr, false));
    stmt->exprs.push_back(std::move(filter));
  }
  ROLLCALL_ASSIGN_OR_RETURN(stmt->body, ParseWholeBlock("endset"));
  return stmt;
}

StatusOr<StmtPtr> StatementParser::ParseFor() {
  StmtPtr stmt = NewStmt(StmtKind::kFor, stream_.line());
  stream_.Skip();
  ROLLCALL_ASSIGN_OR_RETURN(stmt->target, expressions_.ParseTarget(Attributes::kNotAllowed, "in"));
  if (Assigns(*stmt->target, "loop")) return stream_.Error("a loop cannot assign to 'loop'");
  ROLLCALL_RETURN_IF_ERROR(stream_.ExpectName("in"));
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr iterable,
                            expressions_.ParseTuple(Conditions::kNotAllowed, "recursive"));
  stmt->exprs.push_back(std::move(iterable));
  if (stream_.SkipName("if")) {
    ROLLCALL_ASSIGN_OR_RETURN(stmt->condition, expressions_.ParseExpression());
  }
  stmt->recursive = stream_.SkipName("recursive");
  ++loop_depth_;
  ++all_loops_;
  ROLLCALL_ASSIGN_OR_RETURN(stmt->body, ParseBlock({"endfor", "else"}));
  --loop_depth_;
  if (stream_.SkipName("else")) {
    ROLLCALL_ASSIGN_OR_RETURN(stmt->else_body, ParseBlock({"endfor"}));
  }
  --all_loops_;
  stream_.Skip();
  return stmt;
}

StatusOr<StmtPtr> StatementParser::ParseIf() {
  StmtPtr stmt = NewStmt(StmtKind::kIf, stream_.line());
  do {
    stream_.Skip();  // if, elif
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr test, expressions_.ParseTuple(Conditions::kNotAllowed));
    stmt->exprs.push_back(std::move(test));
    ROLLCALL_ASSIGN_OR_RETURN(Body body, ParseBlock({"elif", "else", "endif"}));
    stmt->bodies.push_back(std::move(body));
  } while (stream_.AtName("elif"));
  if (stream_.SkipName("else")) {
    ROLLCALL_ASSIGN_OR_RETURN(stmt->else_body, ParseBlock({"endif"}));
  }
  stream_.Skip();
  return stmt;
}

StatusOr<StmtPtr> StatementParser::ParseWith() {
  StmtPtr stmt = NewStmt(StmtKind::kWith, stream_.line());
  stream_.Skip();
  while (!stream_.At(TokenKind::kBlockEnd)) {
    if (!stmt->targets.empty()) ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator(","));
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr target, expressions_.ParseTarget(Attributes::kNotAllowed));
    ROLLCALL_RETURN_IF_ERROR(CheckTarget(*target));
    stmt->targets.push_back(std::move(target));
    ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator("="));
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr value, expressions_.ParseExpression());
    stmt->exprs.push_back(std::move(value));
  }
  ROLLCALL_ASSIGN_OR_RETURN(stmt->body, ParseWholeBlock("endwith"));
  return stmt;
}

Status StatementParser::ParseSignature(Signature* signature) {
  ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator("("));
  while (!stream_.AtOperator(")")) {
    if (!signature->names.empty()) ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator(","));
    ROLLCALL_ASSIGN_OR_RETURN(std::string name, stream_.TakeName());
    if (std::find(signature->names.begin(), signature->names.end(), name) !=
        signature->names.end()) {
      return stream_.Error("the parameter '" + name + "' is there twice");
    }
    if (stream_.SkipOperator("=")) {
      ROLLCALL_ASSIGN_OR_RETURN(ExprPtr value, expressions_.ParseExpression());
      signature->defaults.push_back(std::move(value));
    } else if (!signature->defaults.empty()) {
      return stream_.Error("a parameter without a default follows one with a default");
    }
    signature->names.push_back(std::move(name));
  }
  stream_.Skip();
  return OkStatus();
}

// The body of a macro or a caller: loops outside of it cannot be left from it.
Status StatementParser::ParseClosure(std::string_view end, Stmt* stmt) {
  const int outer_loops = std::exchange(loop_depth_, 0);
  expressions_.watched().emplace_back();
  ROLLCALL_ASSIGN_OR_RETURN(stmt->body, ParseWholeBlock(end));
  const ExpressionParser::Watched watched = expressions_.watched().back();
  expressions_.watched().pop_back();
  stmt->signature.uses_caller = watched.caller;
  stmt->signature.uses_kwargs = watched.kwargs;
  stmt->signature.uses_varargs = watched.varargs;
  loop_depth_ = outer_loops;
  return OkStatus();
}

StatusOr<StmtPtr> StatementParser::ParseMacro() {
  StmtPtr stmt = NewStmt(StmtKind::kMacro, stream_.line());
  stream_.Skip();
  ROLLCALL_ASSIGN_OR_RETURN(stmt->name, stream_.TakeName());
  ROLLCALL_RETURN_IF_ERROR(ParseSignature(&stmt->signature));
  ROLLCALL_RETURN_IF_ERROR(ParseClosure("endmacro", stmt.get()));
  return stmt;
}

StatusOr<StmtPtr> StatementParser::ParseCallBlock() {
  StmtPtr stmt = NewStmt(StmtKind::kCallBlock, stream_.line());
  stream_.Skip();
  if (stream_.AtOperator("(")) ROLLCALL_RETURN_IF_ERROR(ParseSignature(&stmt->signature));
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr call, expressions_.ParseExpression());
  if (call->kind != ExprKind::kCall) return stream_.Error("{% call %} wants the call of a macro");
  stmt->exprs.push_back(std::move(call));
  ROLLCALL_RETURN_IF_ERROR(ParseClosure("endcall", stmt.get()));
  return stmt;
}

StatusOr<StmtPtr> StatementParser::ParseFilterBlock() {
  StmtPtr stmt = NewStmt(StmtKind::kFilterBlock, stream_.line());
  stream_.Skip();
  ROLLCALL_ASSIGN_OR_RETURN(ExprPtr filter, expressions_.ParseFilterChain(nullptr, true));
  stmt->exprs.push_back(std::move(filter));
  ROLLCALL_ASSIGN_OR_RETURN(stmt->body, ParseWholeBlock("endfilter"));
  return stmt;
}

StatusOr<StmtPtr> StatementParser::ParseGeneration() {
  StmtPtr stmt = NewStmt(StmtKind::kGeneration, stream_.line());
  stream_.Skip();
  ROLLCALL_RETURN_IF_ERROR(ParseClosure("endgeneration", stmt.get()));
  tree_.has_generation = true;
  return stmt;
}

StatusOr<StmtPtr> StatementParser::ParsePrint() {
  StmtPtr stmt = NewStmt(StmtKind::kOutput, stream_.line());
  stream_.Skip();
  while (!stream_.At(TokenKind::kBlockEnd)) {
    if (!stmt->exprs.empty()) ROLLCALL_RETURN_IF_ERROR(stream_.ExpectOperator(","));
    ROLLCALL_ASSIGN_OR_RETURN(ExprPtr expr, expressions_.ParseExpression());
    stmt->exprs.push_back(std::move(expr));
  }
  return stmt;
}

StatusOr<StmtPtr> StatementParser::ParseLoopControl(StmtKind kind) {
  const std::string name = stream_.current().text;
  if (loop_depth_ == 0) return stream_.Error("{% " + name + " %} stands outside of any loop");
  StmtPtr stmt = NewStmt(kind, stream_.line());
  stream_.Skip();
  return stmt;
}

}  // namespace

StatusOr<SyntaxTree> Parse(std::string_view source, const TemplateLimits& limits) {
  if (source.size() > limits.max_template_bytes) {
    return ResourceExhausted("the template has " + std::to_string(source.size()) +
                             " bytes, the limit is " + std::to_string(limits.max_template_bytes));
  }
  ROLLCALL_ASSIGN_OR_RETURN(const std::vector<Token> tokens, Tokenize(source));
  ROLLCALL_ASSIGN_OR_RETURN(SyntaxTree tree, StatementParser(tokens, limits).Run());
  ROLLCALL_RETURN_IF_ERROR(CheckNames(tree));
  return tree;
}

}  // namespace rollcall::jinja
