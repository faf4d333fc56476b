// The syntax tree of a template. Immutable once parsed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "services/common/template/operators.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

enum class ExprKind : uint8_t {
  kConst,      // value
  kName,       // name
  kNamespace,  // target of an assignment only: name.attribute
  kList,       // children
  kTuple,      // children
  kDict,       // children: key, value, key, value
  kGetAttr,    // children[0].name
  kGetItem,    // children[0][children[1]]
  kSlice,      // children[0][children[1]:children[2]:children[3]]
  kCall,       // children[0](call)
  kFilter,     // children[0] | name(call); children[0] is null at the head of a filter block
  kTest,       // children[0] is name(call)
  kNot,
  kNegate,
  kPlus,
  kBinary,   // children[0] binary_op children[1]
  kConcat,   // children joined
  kCompare,  // children[0] compare_ops[0] children[1] compare_ops[1] children[2]...
  kAnd,
  kOr,
  kCondition,  // children[0] if children[1] else children[2], which may be null
};

struct Expr {
  struct Named {
    std::string name;
    std::unique_ptr<Expr> value;
  };

  ExprKind kind = ExprKind::kConst;
  BinaryOp binary_op = BinaryOp::kAdd;
  int line = 0;
  int height = 1;  // of the tree below, bounded by the parser
  Value value;
  std::string name;
  std::string attribute;
  std::vector<std::unique_ptr<Expr>> children;
  std::vector<CompareOp> compare_ops;
  // Of kCall, kFilter, kTest.
  std::vector<std::unique_ptr<Expr>> positional;
  std::vector<Named> named;
  std::unique_ptr<Expr> star_args, star_named;  // *args, **kwargs
};
using ExprPtr = std::unique_ptr<Expr>;

enum class StmtKind : uint8_t {
  kOutput,       // exprs, printed one after the other
  kFor,          // target in exprs[0] if condition; body, else_body
  kIf,           // branches in order: exprs[i] guards bodies[i]; else_body
  kSet,          // target = exprs[0]
  kSetBlock,     // target = body, through exprs[0], a filter, when there is one
  kMacro,        // name(parameters): body
  kCallBlock,    // exprs[0] is a call, body its caller
  kFilterBlock,  // exprs[0] is the filter
  kWith,         // targets[i] = exprs[i]; body
  kGeneration,   // body
  kBreak,
  kContinue,
};

struct Stmt;
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;

// Of a macro or of the caller that a call block passes.
struct Signature {
  std::vector<std::string> names;
  std::vector<ExprPtr> defaults;  // of the last names
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
};

struct Stmt {
  StmtKind kind = StmtKind::kOutput;
  int line = 0;
  ExprPtr target;
  ExprPtr condition;
  bool recursive = false;
  std::string name;
  std::vector<ExprPtr> exprs;
  std::vector<ExprPtr> targets;
  Body body, else_body;
  std::vector<Body> bodies;
  Signature signature;
};

struct SyntaxTree {
  Body body;
  bool has_generation = false;
};

}  // namespace rollcall::jinja
