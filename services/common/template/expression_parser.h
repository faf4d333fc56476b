// Expressions of a template, by recursive descent; binds as jinja2 does, which is not always as
// Python does (** binds to the left, filters bind tighter than unary minus).
#pragma once

#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/template/syntax.h"
#include "services/common/template/token_stream.h"

namespace rollcall::jinja {

class ExpressionParser {
 public:
  ExpressionParser(TokenStream& stream, int max_depth) : stream_(stream), max_depth_(max_depth) {}

  enum class Conditions { kAllowed, kNotAllowed };
  StatusOr<ExprPtr> ParseExpression(Conditions conditions = Conditions::kAllowed);
  // One expression, or several with commas between them: a tuple. `end_name` ends it too, unless
  // empty.
  StatusOr<ExprPtr> ParseTuple(Conditions conditions = Conditions::kAllowed,
                               std::string_view end_name = {});
  // What can stand left of "=" or "in": names, tuples of names, and attributes of a namespace when
  // they are allowed.
  enum class Attributes { kAllowed, kNotAllowed };
  StatusOr<ExprPtr> ParseTarget(Attributes attributes, std::string_view end_name = {});
  // name(args) | name(args): the filters of a block, whose value comes later.
  StatusOr<ExprPtr> ParseFilterChain(ExprPtr value, bool starts_inline);

  // One level deeper; fails at the limit. Leave() goes with every success.
  Status Enter();
  void Leave() { --depth_; }

  // Names that were read since the parser began, for those who watch for some.
  struct Watched {
    bool caller = false, kwargs = false, varargs = false;
  };
  std::vector<Watched>& watched() { return watched_; }

 private:
  StatusOr<ExprPtr> ParseCondition();
  StatusOr<ExprPtr> ParseOr();
  StatusOr<ExprPtr> ParseAnd();
  StatusOr<ExprPtr> ParseNot();
  StatusOr<ExprPtr> ParseCompare();
  StatusOr<ExprPtr> ParseSum();
  StatusOr<ExprPtr> ParseConcat();
  StatusOr<ExprPtr> ParseProduct();
  StatusOr<ExprPtr> ParsePower();
  StatusOr<ExprPtr> ParseUnary(bool with_filters);
  StatusOr<ExprPtr> ParsePrimary(Attributes attributes);
  StatusOr<ExprPtr> ParseName(Attributes attributes);
  StatusOr<ExprPtr> ParseParenthesis();
  StatusOr<ExprPtr> ParseList();
  StatusOr<ExprPtr> ParseDict();
  StatusOr<ExprPtr> ParsePostfix(ExprPtr expr);
  StatusOr<ExprPtr> ParseFilters(ExprPtr expr);
  StatusOr<ExprPtr> ParseSubscript(ExprPtr expr);
  StatusOr<ExprPtr> ParseBrackets(ExprPtr expr, int line);
  StatusOr<ExprPtr> ParseCall(ExprPtr expr);
  StatusOr<ExprPtr> ParseTest(ExprPtr expr);
  StatusOr<std::string> ParseDottedName();
  Status ParseArguments(Expr* call);
  StatusOr<ExprPtr> ParseItems(std::vector<ExprPtr> items, int line, bool simple,
                               Conditions conditions, Attributes attributes,
                               std::string_view end_name, bool allow_empty);
  bool AtTupleEnd(std::string_view end_name) const;
  void Watch(const std::string& name);
  // Sets the height from the parts; fails when it is over the limit.
  StatusOr<ExprPtr> Done(ExprPtr expr) const;

  TokenStream& stream_;
  const int max_depth_;
  int depth_ = 0;
  std::vector<Watched> watched_;
};

}  // namespace rollcall::jinja
