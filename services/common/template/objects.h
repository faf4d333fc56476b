// Objects that templates make and call: namespaces, macros, loops, functions and bound methods.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/template/interpreter.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

// A global function, such as range.
using FunctionFn = StatusOr<Value> (*)(Interpreter& interpreter, CallArgs args);
struct FunctionObject : NativeObject {
  FunctionObject(std::string_view function_name, FunctionFn function)
      : name(function_name), fn(function) {}
  std::string Describe() const override { return "<function " + std::string(name) + ">"; }
  bool is_callable() const override { return true; }
  StatusOr<Value> Call(Interpreter& interpreter, CallArgs args) override {
    return fn(interpreter, std::move(args));
  }
  const std::string_view name;
  const FunctionFn fn;
};

// A method of a string, list, dict or tuple, with the value it belongs to.
using MethodFn = StatusOr<Value> (*)(Interpreter& interpreter, const Value& self, CallArgs args);
struct MethodObject : NativeObject {
  MethodObject(std::string_view method_name, MethodFn function, Value value)
      : name(method_name), fn(function), self(std::move(value)) {}
  std::string Describe() const override {
    return "<built-in method " + std::string(name) + " of " + TypeName(self) + " object>";
  }
  bool is_callable() const override { return true; }
  StatusOr<Value> Call(Interpreter& interpreter, CallArgs args) override {
    return fn(interpreter, self, std::move(args));
  }
  const std::string_view name;
  const MethodFn fn;
  const Value self;
};

struct NamespaceObject : NativeObject, Interpreter::Clearable {
  std::string Describe() const override;
  StatusOr<bool> GetAttribute(Interpreter& interpreter, std::string_view name, Value* out) override;
  Status SetAttribute(std::string_view name, Value value) override;
  void Clear() override { attributes.clear(); }
  std::vector<std::pair<std::string, Value>> attributes;
};

struct MacroObject : NativeObject {
  MacroObject(const Stmt& stmt, std::string macro_name, ScopePtr defining_scope)
      : definition(stmt), name(std::move(macro_name)), scope(std::move(defining_scope)) {}
  std::string Describe() const override { return "<Macro '" + name + "'>"; }
  StatusOr<bool> GetAttribute(Interpreter& interpreter, std::string_view name, Value* out) override;
  bool is_callable() const override { return true; }
  StatusOr<Value> Call(Interpreter& interpreter, CallArgs args) override;

  const Stmt& definition;
  const std::string name;
  const ScopePtr scope;  // where it was defined, and where its body looks names up
};

// The variable `loop`.
struct LoopObject : NativeObject {
  LoopObject(const Stmt& stmt, ScopePtr scope, Value iterable, int loop_depth0)
      : definition(stmt),
        outer(std::move(scope)),
        source(std::move(iterable)),
        depth0(loop_depth0) {}
  std::string Describe() const override { return "<LoopContext>"; }
  StatusOr<bool> GetAttribute(Interpreter& interpreter, std::string_view name, Value* out) override;
  bool is_callable() const override { return true; }
  StatusOr<Value> Call(Interpreter& interpreter, CallArgs args) override;

  // Moves to the next item; false at the end.
  StatusOr<bool> Advance(Interpreter& interpreter);
  // Once it is over: nothing it has seen is kept, so that loops which outlive their end form no
  // chain.
  void Finish();

  StatusOr<bool> Peek(Interpreter& interpreter);
  StatusOr<int64_t> Size(Interpreter& interpreter);

  const Stmt& definition;
  ScopePtr outer;
  Value source;  // what is looped over, before the condition of the loop
  std::shared_ptr<IteratorObject> iterator;
  const int depth0;
  int64_t index0 = -1;
  int64_t size = -1;  // unknown until somebody asks
  bool has_next = false, has_changed = false;
  Value next, current, before, last_changed;
};

struct CyclerObject : NativeObject {
  std::string Describe() const override { return "<Cycler>"; }
  StatusOr<bool> GetAttribute(Interpreter& interpreter, std::string_view name, Value* out) override;
  std::vector<Value> items;
  size_t at = 0;
};

struct JoinerObject : NativeObject {
  std::string Describe() const override { return "<Joiner>"; }
  bool is_callable() const override { return true; }
  StatusOr<Value> Call(Interpreter& interpreter, CallArgs args) override;
  Value separator;
  bool used = false;
};

// Whether the name is a global; *out is its value.
bool FindGlobal(std::string_view name, Value* out);

// The iterator of a loop with a condition: only the items for which it holds, lazily.
std::shared_ptr<IteratorObject> FilterLoop(const Stmt& loop, ScopePtr scope,
                                           std::shared_ptr<IteratorObject> source);

}  // namespace rollcall::jinja
