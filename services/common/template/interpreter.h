// Runs a syntax tree over variables. One object renders once; not thread-safe, but any number of
// them may share one tree.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/template/civil_time.h"
#include "services/common/template/heap.h"
#include "services/common/template/syntax.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

// Names and what they stand for; what is not here is looked for in the parent.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> parent_scope) : parent(std::move(parent_scope)) {}

  const Value* Find(std::string_view name) const;
  void Set(std::string_view name, Value value);  // the name outlives the scope

  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string_view, Value>> variables;
};
using ScopePtr = std::shared_ptr<Scope>;

enum class Flow { kNormal, kBreak, kContinue };

// Where {% generation %} wrote, in characters, as transformers counts: from the text that has
// reached the output itself when the block ends, however deep in macros the block stands.
struct GenerationSpan {
  int64_t begin_char = 0, end_char = 0;
};

class Interpreter {
 public:
  // All outlive the interpreter. `now` is what strftime_now() formats; without it that is an error.
  Interpreter(const SyntaxTree& tree, Heap& heap, const std::optional<CivilTime>& now);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // A variable of the template; hides a global of that name.
  void SetVariable(const std::string& name, Value value);
  // The output. Errors name the line. Once.
  StatusOr<std::string> Render();
  const std::vector<GenerationSpan>& generation_spans() const { return generation_spans_; }

  // --- For filters, methods and objects ---
  Heap& heap() { return heap_; }
  const std::optional<CivilTime>& now() const { return now_; }
  // object.name and object[key], as the sandboxed environment of jinja2 looks them up.
  StatusOr<Value> GetAttribute(const Value& object, std::string_view name);
  StatusOr<Value> GetItem(const Value& object, const Value& key);
  StatusOr<Value> Call(const Value& callee, CallArgs args);
  StatusOr<Value> CallFilter(const std::string& name, const Value& value, CallArgs args);
  StatusOr<bool> CallTest(const std::string& name, const Value& value, CallArgs args);
  // `item in container`.
  StatusOr<bool> Contains(const Value& container, const Value& item);

  // --- For statements: macros, loops, filters of loops ---
  StatusOr<Value> Eval(const Expr& expr, const ScopePtr& scope);
  StatusOr<Flow> Exec(const Body& body, const ScopePtr& scope);
  // What the body prints. *flow tells how it ended, when it is wanted.
  StatusOr<std::string> Capture(const Body& body, const ScopePtr& scope, Flow* flow = nullptr);
  StatusOr<std::string> CaptureLoop(const Stmt& loop, const Value& iterable, const ScopePtr& scope,
                                    int depth);
  Status Assign(const Expr& target, const Value& value, const ScopePtr& scope);
  // Keeps an object until the end of the rendering, when Clear() breaks what refers to itself.
  struct Clearable {
    virtual ~Clearable() = default;
    virtual void Clear() = 0;
  };
  void KeepUntilEnd(std::shared_ptr<Clearable> object) { kept_.push_back(std::move(object)); }
  void KeepScope(const ScopePtr& scope);
  // One level of evaluation; fails at the limit. A guard of its own leaves it.
  class Level {
   public:
    explicit Level(Interpreter& interpreter) : interpreter_(interpreter) { ++interpreter_.depth_; }
    ~Level() { --interpreter_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    Status Check() const;

   private:
    Interpreter& interpreter_;
  };

 private:
  Status Write(std::string_view text);
  StatusOr<Value> Lookup(const std::string& name, const ScopePtr& scope);

  StatusOr<Value> EvalKind(const Expr& expr, const ScopePtr& scope);
  StatusOr<std::vector<Value>> EvalAll(const std::vector<ExprPtr>& exprs, const ScopePtr& scope);
  StatusOr<Value> EvalDict(const Expr& expr, const ScopePtr& scope);
  StatusOr<Value> EvalCall(const Expr& expr, const ScopePtr& scope);
  StatusOr<Value> EvalFilter(const Expr& expr, const ScopePtr& scope, const Value* block);
  StatusOr<Value> EvalTest(const Expr& expr, const ScopePtr& scope);
  StatusOr<Value> EvalBinary(const Expr& expr, const ScopePtr& scope);
  StatusOr<Value> EvalConcat(const Expr& expr, const ScopePtr& scope);
  StatusOr<Value> EvalCompare(const Expr& expr, const ScopePtr& scope);
  StatusOr<Value> EvalLogic(const Expr& expr, const ScopePtr& scope);
  StatusOr<Value> EvalSlice(const Expr& expr, const ScopePtr& scope);
  StatusOr<Value> EvalCondition(const Expr& expr, const ScopePtr& scope);
  StatusOr<CallArgs> EvalArgs(const Expr& expr, const ScopePtr& scope);

  StatusOr<Flow> ExecStmt(const Stmt& stmt, const ScopePtr& scope);
  Status ExecOutput(const Stmt& stmt, const ScopePtr& scope);
  StatusOr<Flow> ExecIf(const Stmt& stmt, const ScopePtr& scope);
  StatusOr<Flow> ExecFor(const Stmt& stmt, const ScopePtr& scope);
  StatusOr<Flow> RunLoop(const Stmt& stmt, const Value& iterable, const ScopePtr& scope, int depth);
  StatusOr<Flow> ExecSetBlock(const Stmt& stmt, const ScopePtr& scope);
  StatusOr<Flow> ExecFilterBlock(const Stmt& stmt, const ScopePtr& scope);
  StatusOr<Flow> ExecWith(const Stmt& stmt, const ScopePtr& scope);
  Status ExecMacro(const Stmt& stmt, const ScopePtr& scope);
  Status ExecCallBlock(const Stmt& stmt, const ScopePtr& scope);
  Status ExecGeneration(const Stmt& stmt, const ScopePtr& scope);

  const SyntaxTree& tree_;
  Heap& heap_;
  const std::optional<CivilTime>& now_;
  std::vector<std::pair<std::string, Value>> variables_;
  std::string output_;           // of the template itself
  std::string* sink_ = nullptr;  // where what is printed goes now
  size_t counted_bytes_ = 0;     // of output_, whose characters are counted
  int64_t counted_chars_ = 0;
  std::vector<GenerationSpan> generation_spans_;
  std::vector<std::shared_ptr<Clearable>> kept_;
  std::vector<ScopePtr> kept_scopes_;
  int depth_ = 0;
  int error_line_ = 0;  // of the first thing that failed
};

}  // namespace rollcall::jinja
