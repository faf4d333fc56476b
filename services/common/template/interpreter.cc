#include "services/common/template/interpreter.h"

#include <algorithm>
#include <utility>

#include "services/common/template/iterate.h"
#include "services/common/template/lexer.h"
#include "services/common/template/objects.h"
#include "services/common/template/unicode.h"
#include "services/common/template/value_text.h"

namespace rollcall::jinja {

const Value* Scope::Find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [have, value] : scope->variables) {
      if (have == name) return &value;
    }
  }
  return nullptr;
}

void Scope::Set(std::string_view name, Value value) {
  for (auto& [have, old] : variables) {
    if (have == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

Interpreter::Interpreter(const SyntaxTree& tree, Heap& heap, const std::optional<CivilTime>& now)
    : tree_(tree), heap_(heap), now_(now), sink_(&output_) {}

Interpreter::~Interpreter() {
  // One by one, so that no chain of them is taken down in one recursion.
  for (const auto& object : kept_) object->Clear();
  for (const ScopePtr& scope : kept_scopes_) {
    auto variables = std::move(scope->variables);
    scope->variables.clear();
    variables.clear();
  }
}

Status Interpreter::Level::Check() const {
  if (interpreter_.depth_ <= interpreter_.heap_.limits().max_eval_depth) return OkStatus();
  return ResourceExhausted("the evaluation is nested deeper than the limit of " +
                           std::to_string(interpreter_.heap_.limits().max_eval_depth) +
                           ": does a macro call itself without end?");
}

void Interpreter::KeepScope(const ScopePtr& scope) {
  if (kept_scopes_.empty() || kept_scopes_.back() != scope) kept_scopes_.push_back(scope);
}

void Interpreter::SetVariable(const std::string& name, Value value) {
  for (auto& [have, old] : variables_) {
    if (have == name) {
      old = std::move(value);
      return;
    }
  }
  variables_.emplace_back(name, std::move(value));
}

StatusOr<std::string> Interpreter::Render() {
  const auto root = std::make_shared<Scope>(nullptr);
  const StatusOr<Flow> flow = Exec(tree_.body, root);
  if (!flow.ok()) {
    return error_line_ > 0 ? AtLine(flow.status(), error_line_) : flow.status();
  }
  return std::move(output_);
}

Status Interpreter::Write(std::string_view text) {
  ROLLCALL_RETURN_IF_ERROR(heap_.CheckStringBytes(sink_->size() + text.size()));
  ROLLCALL_RETURN_IF_ERROR(heap_.StepBytes(text.size()));
  sink_->append(text);
  return OkStatus();
}

StatusOr<std::string> Interpreter::Capture(const Body& body, const ScopePtr& scope, Flow* flow) {
  std::string captured;
  std::string* const outer = std::exchange(sink_, &captured);
  const StatusOr<Flow> ended = Exec(body, scope);
  sink_ = outer;
  ROLLCALL_RETURN_IF_ERROR(ended.status());
  if (flow != nullptr) *flow = *ended;
  return captured;
}

StatusOr<std::string> Interpreter::CaptureLoop(const Stmt& loop, const Value& iterable,
                                               const ScopePtr& scope, int depth) {
  std::string captured;
  std::string* const outer = std::exchange(sink_, &captured);
  const StatusOr<Flow> ended = RunLoop(loop, iterable, scope, depth);
  sink_ = outer;
  ROLLCALL_RETURN_IF_ERROR(ended.status());
  return captured;
}

StatusOr<Flow> Interpreter::Exec(const Body& body, const ScopePtr& scope) {
  const Level level(*this);
  ROLLCALL_RETURN_IF_ERROR(level.Check());
  for (const StmtPtr& stmt : body) {
    ROLLCALL_RETURN_IF_ERROR(heap_.Step());
    StatusOr<Flow> flow = ExecStmt(*stmt, scope);
    if (!flow.ok() && error_line_ == 0) error_line_ = stmt->line;
    if (!flow.ok() || *flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

StatusOr<Flow> Interpreter::ExecStmt(const Stmt& stmt, const ScopePtr& scope) {
  switch (stmt.kind) {
    case StmtKind::kOutput:
      ROLLCALL_RETURN_IF_ERROR(ExecOutput(stmt, scope));
      return Flow::kNormal;
    case StmtKind::kFor:
      return ExecFor(stmt, scope);
    case StmtKind::kIf:
      return ExecIf(stmt, scope);
    case StmtKind::kSet: {
      ROLLCALL_ASSIGN_OR_RETURN(const Value value, Eval(*stmt.exprs[0], scope));
      ROLLCALL_RETURN_IF_ERROR(Assign(*stmt.target, value, scope));
      return Flow::kNormal;
    }
    case StmtKind::kSetBlock:
      return ExecSetBlock(stmt, scope);
    case StmtKind::kMacro:
      ROLLCALL_RETURN_IF_ERROR(ExecMacro(stmt, scope));
      return Flow::kNormal;
    case StmtKind::kCallBlock:
      ROLLCALL_RETURN_IF_ERROR(ExecCallBlock(stmt, scope));
      return Flow::kNormal;
    case StmtKind::kFilterBlock:
      return ExecFilterBlock(stmt, scope);
    case StmtKind::kWith:
      return ExecWith(stmt, scope);
    case StmtKind::kGeneration:
      ROLLCALL_RETURN_IF_ERROR(ExecGeneration(stmt, scope));
      return Flow::kNormal;
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

Status Interpreter::ExecOutput(const Stmt& stmt, const ScopePtr& scope) {
  for (const ExprPtr& expr : stmt.exprs) {
    if (expr->kind == ExprKind::kConst && expr->value.is_string()) {
      ROLLCALL_RETURN_IF_ERROR(Write(expr->value.text()));
      continue;
    }
    ROLLCALL_ASSIGN_OR_RETURN(const Value value, Eval(*expr, scope));
    if (value.is_string()) {
      ROLLCALL_RETURN_IF_ERROR(Write(value.text()));
    } else {
      ROLLCALL_ASSIGN_OR_RETURN(const std::string text, Str(heap_, value));
      ROLLCALL_RETURN_IF_ERROR(Write(text));
    }
  }
  return OkStatus();
}

StatusOr<Flow> Interpreter::ExecIf(const Stmt& stmt, const ScopePtr& scope) {
  for (size_t i = 0; i < stmt.exprs.size(); ++i) {
    ROLLCALL_ASSIGN_OR_RETURN(const Value test, Eval(*stmt.exprs[i], scope));
    if (IsTrue(test)) return Exec(stmt.bodies[i], scope);
  }
  return Exec(stmt.else_body, scope);
}

StatusOr<Flow> Interpreter::ExecFor(const Stmt& stmt, const ScopePtr& scope) {
  ROLLCALL_ASSIGN_OR_RETURN(const Value iterable, Eval(*stmt.exprs[0], scope));
  if (!stmt.recursive) return RunLoop(stmt, iterable, scope, 0);
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text, CaptureLoop(stmt, iterable, scope, 0));
  ROLLCALL_RETURN_IF_ERROR(Write(text));
  return Flow::kNormal;
}

StatusOr<Flow> Interpreter::RunLoop(const Stmt& stmt, const Value& iterable, const ScopePtr& scope,
                                    int depth) {
  const Level level(*this);
  ROLLCALL_RETURN_IF_ERROR(level.Check());
  ROLLCALL_ASSIGN_OR_RETURN(auto iterator, Iterate(*this, iterable));
  if (stmt.condition != nullptr) iterator = FilterLoop(stmt, scope, std::move(iterator));
  auto loop = std::make_shared<LoopObject>(stmt, scope, iterable, depth);
  ROLLCALL_RETURN_IF_ERROR(heap_.Adopt(loop.get(), sizeof(LoopObject), 0));
  loop->iterator = std::move(iterator);
  const Value loop_value = Value::Of(Kind::kNative, loop);
  // jinja2 sets its mark at the end of the body, so that an item which was left early by continue
  // does not count for the else branch.
  bool completed_any = false;
  ScopePtr inner;
  while (true) {
    ROLLCALL_RETURN_IF_ERROR(heap_.Step());
    ROLLCALL_ASSIGN_OR_RETURN(const bool more, loop->Advance(*this));
    if (!more) break;
    if (inner == nullptr || inner.use_count() > 1) {
      inner = std::make_shared<Scope>(scope);
    } else {
      inner->variables.clear();
    }
    inner->Set("loop", loop_value);
    ROLLCALL_RETURN_IF_ERROR(Assign(*stmt.target, loop->current, inner));
    ROLLCALL_ASSIGN_OR_RETURN(const Flow flow, Exec(stmt.body, inner));
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNormal) completed_any = true;
  }
  inner.reset();
  loop->Finish();
  if (completed_any || stmt.else_body.empty()) return Flow::kNormal;
  return Exec(stmt.else_body, std::make_shared<Scope>(scope));
}

StatusOr<Flow> Interpreter::ExecSetBlock(const Stmt& stmt, const ScopePtr& scope) {
  Flow flow = Flow::kNormal;
  const auto inner = std::make_shared<Scope>(scope);
  ROLLCALL_ASSIGN_OR_RETURN(std::string text, Capture(stmt.body, inner, &flow));
  if (flow != Flow::kNormal) return flow;
  ROLLCALL_ASSIGN_OR_RETURN(Value value, heap_.String(std::move(text)));
  if (!stmt.exprs.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(value, EvalFilter(*stmt.exprs[0], inner, &value));
  }
  ROLLCALL_RETURN_IF_ERROR(Assign(*stmt.target, value, scope));
  return Flow::kNormal;
}

StatusOr<Flow> Interpreter::ExecFilterBlock(const Stmt& stmt, const ScopePtr& scope) {
  Flow flow = Flow::kNormal;
  const auto inner = std::make_shared<Scope>(scope);
  ROLLCALL_ASSIGN_OR_RETURN(std::string text, Capture(stmt.body, inner, &flow));
  if (flow != Flow::kNormal) return flow;
  ROLLCALL_ASSIGN_OR_RETURN(Value value, heap_.String(std::move(text)));
  ROLLCALL_ASSIGN_OR_RETURN(value, EvalFilter(*stmt.exprs[0], inner, &value));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string printed, Str(heap_, value));
  ROLLCALL_RETURN_IF_ERROR(Write(printed));
  return Flow::kNormal;
}

StatusOr<Flow> Interpreter::ExecWith(const Stmt& stmt, const ScopePtr& scope) {
  const auto inner = std::make_shared<Scope>(scope);
  for (size_t i = 0; i < stmt.targets.size(); ++i) {
    ROLLCALL_ASSIGN_OR_RETURN(const Value value, Eval(*stmt.exprs[i], scope));
    ROLLCALL_RETURN_IF_ERROR(Assign(*stmt.targets[i], value, inner));
  }
  return Exec(stmt.body, inner);
}

Status Interpreter::ExecMacro(const Stmt& stmt, const ScopePtr& scope) {
  auto macro = std::make_shared<MacroObject>(stmt, stmt.name, scope);
  ROLLCALL_RETURN_IF_ERROR(heap_.Adopt(macro.get(), sizeof(MacroObject), 0));
  KeepScope(scope);
  scope->Set(stmt.name, Value::Of(Kind::kNative, std::move(macro)));
  return OkStatus();
}

Status Interpreter::ExecCallBlock(const Stmt& stmt, const ScopePtr& scope) {
  auto caller = std::make_shared<MacroObject>(stmt, "caller", scope);
  ROLLCALL_RETURN_IF_ERROR(heap_.Adopt(caller.get(), sizeof(MacroObject), 0));
  KeepScope(scope);
  const Expr& call = *stmt.exprs[0];
  ROLLCALL_ASSIGN_OR_RETURN(const Value callee, Eval(*call.children[0], scope));
  ROLLCALL_ASSIGN_OR_RETURN(CallArgs args, EvalArgs(call, scope));
  args.named.emplace_back("caller", Value::Of(Kind::kNative, std::move(caller)));
  ROLLCALL_ASSIGN_OR_RETURN(const Value result, Call(callee, std::move(args)));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text, Str(heap_, result));
  return Write(text);
}

Status Interpreter::ExecGeneration(const Stmt& stmt, const ScopePtr& scope) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text,
                            Capture(stmt.body, std::make_shared<Scope>(scope)));
  const std::string_view uncounted = std::string_view(output_).substr(counted_bytes_);
  ROLLCALL_RETURN_IF_ERROR(heap_.StepBytes(uncounted.size()));
  counted_chars_ += CountChars(uncounted);
  counted_bytes_ = output_.size();
  generation_spans_.push_back({counted_chars_, counted_chars_ + CountChars(text)});
  ROLLCALL_RETURN_IF_ERROR(heap_.Step(8));
  return Write(text);
}

Status Interpreter::Assign(const Expr& target, const Value& value, const ScopePtr& scope) {
  switch (target.kind) {
    case ExprKind::kName:
      scope->Set(target.name, value);
      return OkStatus();
    case ExprKind::kNamespace: {
      ROLLCALL_ASSIGN_OR_RETURN(const Value object, Lookup(target.name, scope));
      if (!object.is(Kind::kNative)) {
        return InvalidArgument("cannot set the attribute '" + target.attribute + "' of '" +
                               target.name + "', a " + TypeName(object) +
                               ": only a namespace() takes attributes");
      }
      return object.native().SetAttribute(target.attribute, value);
    }
    default:
      break;
  }
  // A tuple: as many items as names.
  ROLLCALL_ASSIGN_OR_RETURN(const auto iterator, Iterate(*this, value));
  std::vector<Value> items;
  Value item;
  while (items.size() <= target.children.size()) {
    ROLLCALL_RETURN_IF_ERROR(heap_.Step());
    ROLLCALL_ASSIGN_OR_RETURN(const bool more, iterator->Next(*this, &item));
    if (!more) break;
    items.push_back(std::move(item));
  }
  if (items.size() != target.children.size()) {
    return InvalidArgument(
        std::string(items.size() < target.children.size() ? "not enough" : "too many") +
        " values to unpack, expected " + std::to_string(target.children.size()));
  }
  for (size_t i = 0; i < items.size(); ++i) {
    ROLLCALL_RETURN_IF_ERROR(Assign(*target.children[i], items[i], scope));
  }
  return OkStatus();
}

StatusOr<Value> Interpreter::Lookup(const std::string& name, const ScopePtr& scope) {
  if (const Value* value = scope->Find(name)) return *value;
  for (const auto& [have, value] : variables_) {
    if (have == name) return value;
  }
  Value global;
  if (FindGlobal(name, &global)) return global;
  return Value::Undefined("'" + name + "' is undefined");
}

}  // namespace rollcall::jinja
