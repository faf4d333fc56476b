#include "services/common/template/objects.h"

#include <algorithm>

#include "services/common/template/arguments.h"
#include "services/common/template/iterate.h"
#include "services/common/template/operators.h"
#include "services/common/template/value_text.h"

namespace rollcall::jinja {
namespace {

constexpr size_t kMaxNamespaceAttributes = 10'000;

struct FilteredLoop : IteratorObject {
  FilteredLoop(const Stmt& stmt, ScopePtr defining_scope, std::shared_ptr<IteratorObject> iterator)
      : loop(stmt), scope(std::move(defining_scope)), source(std::move(iterator)) {}

  StatusOr<bool> Next(Interpreter& interpreter, Value* out) override {
    while (true) {
      ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Step());
      ROLLCALL_ASSIGN_OR_RETURN(const bool more, source->Next(interpreter, out));
      if (!more) return false;
      const auto inner = std::make_shared<Scope>(scope);
      ROLLCALL_RETURN_IF_ERROR(interpreter.Assign(*loop.target, *out, inner));
      ROLLCALL_ASSIGN_OR_RETURN(const Value holds, interpreter.Eval(*loop.condition, inner));
      if (IsTrue(holds)) return true;
    }
  }

  const Stmt& loop;
  const ScopePtr scope;
  const std::shared_ptr<IteratorObject> source;
};

StatusOr<Value> LoopCycle(Interpreter& interpreter, const Value& self, CallArgs args) {
  const auto* loop = dynamic_cast<const LoopObject*>(&self.native());
  if (loop == nullptr || args.positional.empty() || !args.named.empty()) {
    return InvalidArgument("loop.cycle() wants the items to go through");
  }
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Step());
  const auto at = static_cast<size_t>(std::max<int64_t>(loop->index0, 0));
  return args.positional[at % args.positional.size()];
}

StatusOr<Value> LoopChanged(Interpreter& interpreter, const Value& self, CallArgs args) {
  auto* loop = dynamic_cast<LoopObject*>(&self.native());
  if (loop == nullptr || !args.named.empty()) {
    return InvalidArgument("loop.changed() takes no named arguments");
  }
  ROLLCALL_ASSIGN_OR_RETURN(Value values, interpreter.heap().Tuple(std::move(args.positional)));
  if (loop->has_changed) {
    ROLLCALL_ASSIGN_OR_RETURN(const bool equal,
                              Equal(interpreter.heap(), loop->last_changed, values));
    if (equal) return Value::Bool(false);
  }
  loop->has_changed = true;
  loop->last_changed = std::move(values);
  return Value::Bool(true);
}

StatusOr<Value> CyclerNext(Interpreter& /*interpreter*/, const Value& self, CallArgs args) {
  auto* cycler = dynamic_cast<CyclerObject*>(&self.native());
  if (cycler == nullptr || !args.positional.empty() || !args.named.empty()) {
    return InvalidArgument("cycler.next() takes no arguments");
  }
  const Value value = cycler->items[cycler->at];
  cycler->at = (cycler->at + 1) % cycler->items.size();
  return value;
}

StatusOr<Value> CyclerReset(Interpreter& /*interpreter*/, const Value& self, CallArgs args) {
  auto* cycler = dynamic_cast<CyclerObject*>(&self.native());
  if (cycler == nullptr || !args.positional.empty() || !args.named.empty()) {
    return InvalidArgument("cycler.reset() takes no arguments");
  }
  cycler->at = 0;
  return Value::None();
}

// A method bound to the object itself, which the caller holds as a value.
template <typename T>
StatusOr<bool> BindMethod(Interpreter& interpreter, std::string_view name, MethodFn fn, T* self,
                          Value* out) {
  // The object is shared already; an alias that owns nothing would outlive it.
  const Value value = Value::Of(Kind::kNative, self->shared_from_this());
  auto method = std::make_shared<MethodObject>(name, fn, value);
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Adopt(method.get(), 0, value.depth()));
  *out = Value::Of(Kind::kNative, std::move(method));
  return true;
}

}  // namespace

std::string NamespaceObject::Describe() const { return "<Namespace>"; }

StatusOr<bool> NamespaceObject::GetAttribute(Interpreter& /*interpreter*/, std::string_view name,
                                             Value* out) {
  for (const auto& [have, value] : attributes) {
    if (have == name) {
      *out = value;
      return true;
    }
  }
  return false;
}

Status NamespaceObject::SetAttribute(std::string_view name, Value value) {
  if (name.starts_with("_")) {
    return InvalidArgument(
        "a namespace takes no attribute that starts with an underscore, such as '" +
        std::string(name) + "'");
  }
  for (auto& [have, old] : attributes) {
    if (have == name) {
      old = std::move(value);
      return OkStatus();
    }
  }
  if (attributes.size() >= kMaxNamespaceAttributes) {
    return ResourceExhausted("a namespace has more than " +
                             std::to_string(kMaxNamespaceAttributes) + " attributes");
  }
  attributes.emplace_back(std::string(name), std::move(value));
  return OkStatus();
}

StatusOr<bool> MacroObject::GetAttribute(Interpreter& interpreter, std::string_view attribute,
                                         Value* out) {
  const Signature& signature = definition.signature;
  if (attribute == "name") {
    ROLLCALL_ASSIGN_OR_RETURN(*out, interpreter.heap().String(name));
  } else if (attribute == "arguments") {
    std::vector<Value> names;
    for (const std::string& parameter : signature.names) {
      ROLLCALL_ASSIGN_OR_RETURN(Value text, interpreter.heap().String(parameter));
      names.push_back(std::move(text));
    }
    ROLLCALL_ASSIGN_OR_RETURN(*out, interpreter.heap().List(std::move(names)));
  } else if (attribute == "caller") {
    *out = Value::Bool(signature.uses_caller);
  } else if (attribute == "catch_kwargs") {
    *out = Value::Bool(signature.uses_kwargs);
  } else if (attribute == "catch_varargs") {
    *out = Value::Bool(signature.uses_varargs);
  } else {
    return false;
  }
  return true;
}

StatusOr<Value> MacroObject::Call(Interpreter& interpreter, CallArgs args) {
  const Interpreter::Level level(interpreter);
  ROLLCALL_RETURN_IF_ERROR(level.Check());
  const Signature& signature = definition.signature;
  const size_t count = signature.names.size();
  const auto inner = std::make_shared<Scope>(scope);
  const auto take_named = [&](std::string_view wanted, Value* out) {
    const auto it = std::find_if(args.named.begin(), args.named.end(),
                                 [&](const auto& entry) { return entry.first == wanted; });
    if (it == args.named.end()) return false;
    *out = std::move(it->second);
    args.named.erase(it);
    return true;
  };
  bool has_caller_parameter = false;
  std::vector<size_t> missing;
  for (size_t i = 0; i < count; ++i) {
    const std::string& parameter = signature.names[i];
    has_caller_parameter |= parameter == "caller";
    Value value;
    if (i < args.positional.size()) {
      value = args.positional[i];
    } else if (!take_named(parameter, &value)) {
      missing.push_back(i);
      value = Value::Undefined("parameter '" + parameter + "' was not provided");
    }
    inner->Set(parameter, std::move(value));
  }
  if (signature.uses_caller && !has_caller_parameter) {
    Value caller;
    if (!take_named("caller", &caller)) caller = Value::Undefined("no caller is defined");
    inner->Set("caller", std::move(caller));
  }
  if (signature.uses_kwargs) {
    std::vector<DictObject::Entry> entries;
    for (auto& [key, value] : args.named) {
      ROLLCALL_ASSIGN_OR_RETURN(Value text, interpreter.heap().String(key));
      entries.emplace_back(std::move(text), std::move(value));
    }
    ROLLCALL_ASSIGN_OR_RETURN(Value named, interpreter.heap().Dict(std::move(entries)));
    inner->Set("kwargs", std::move(named));
  } else if (!args.named.empty()) {
    return InvalidArgument("the macro '" + name + "' takes no argument named '" +
                           args.named[0].first + "'");
  }
  if (signature.uses_varargs) {
    std::vector<Value> rest;
    for (size_t i = count; i < args.positional.size(); ++i) rest.push_back(args.positional[i]);
    ROLLCALL_ASSIGN_OR_RETURN(Value varargs, interpreter.heap().Tuple(std::move(rest)));
    inner->Set("varargs", std::move(varargs));
  } else if (args.positional.size() > count) {
    return InvalidArgument("the macro '" + name + "' takes at most " + std::to_string(count) +
                           " arguments, " + std::to_string(args.positional.size()) + " were given");
  }
  const size_t first_default = count - signature.defaults.size();
  for (const size_t i : missing) {
    if (i < first_default) continue;
    ROLLCALL_ASSIGN_OR_RETURN(Value value,
                              interpreter.Eval(*signature.defaults[i - first_default], inner));
    inner->Set(signature.names[i], std::move(value));
  }
  ROLLCALL_ASSIGN_OR_RETURN(std::string text, interpreter.Capture(definition.body, inner));
  return interpreter.heap().String(std::move(text));
}

StatusOr<bool> LoopObject::Advance(Interpreter& interpreter) {
  ROLLCALL_ASSIGN_OR_RETURN(const bool more, Peek(interpreter));
  if (!more) return false;
  has_next = false;
  ++index0;
  before = std::move(current);
  current = std::move(next);
  next = Value();
  return true;
}

StatusOr<bool> LoopObject::Peek(Interpreter& interpreter) {
  if (has_next) return true;
  if (iterator == nullptr) return false;
  ROLLCALL_ASSIGN_OR_RETURN(has_next, iterator->Next(interpreter, &next));
  return has_next;
}

StatusOr<int64_t> LoopObject::Size(Interpreter& interpreter) {
  if (size >= 0) return size;
  if (iterator == nullptr) return index0 + 1;
  if (definition.condition == nullptr && !source.is(Kind::kIterator)) {
    ROLLCALL_ASSIGN_OR_RETURN(size, Length(source));
    return size;
  }
  // Only running it to its end tells; what it gives is kept for the loop.
  ROLLCALL_ASSIGN_OR_RETURN(std::vector<Value> rest,
                            Collect(interpreter, Value::Of(Kind::kIterator, iterator)));
  size = static_cast<int64_t>(rest.size()) + index0 + 1 + (has_next ? 1 : 0);
  ROLLCALL_ASSIGN_OR_RETURN(const Value list, interpreter.heap().List(std::move(rest)));
  ROLLCALL_ASSIGN_OR_RETURN(iterator, Iterate(interpreter, list));
  return size;
}

void LoopObject::Finish() {
  iterator = nullptr;
  outer = nullptr;
  has_next = false;
  source = next = current = before = last_changed = Value();
}

StatusOr<bool> LoopObject::GetAttribute(Interpreter& interpreter, std::string_view name,
                                        Value* out) {
  if (name == "index") {
    *out = Value::Int(index0 + 1);
  } else if (name == "index0") {
    *out = Value::Int(index0);
  } else if (name == "first") {
    *out = Value::Bool(index0 == 0);
  } else if (name == "last") {
    ROLLCALL_ASSIGN_OR_RETURN(const bool more, Peek(interpreter));
    *out = Value::Bool(!more);
  } else if (name == "length" || name == "revindex" || name == "revindex0") {
    ROLLCALL_ASSIGN_OR_RETURN(const int64_t length, Size(interpreter));
    *out = Value::Int(name == "length" ? length : length - index0 - (name == "revindex0" ? 1 : 0));
  } else if (name == "depth") {
    *out = Value::Int(depth0 + 1);
  } else if (name == "depth0") {
    *out = Value::Int(depth0);
  } else if (name == "previtem") {
    *out = index0 == 0 ? Value::Undefined("there is no previous item") : before;
  } else if (name == "nextitem") {
    ROLLCALL_ASSIGN_OR_RETURN(const bool more, Peek(interpreter));
    *out = more ? next : Value::Undefined("there is no next item");
  } else if (name == "cycle") {
    return BindMethod(interpreter, "cycle", LoopCycle, this, out);
  } else if (name == "changed") {
    return BindMethod(interpreter, "changed", LoopChanged, this, out);
  } else {
    return false;
  }
  return true;
}

StatusOr<Value> LoopObject::Call(Interpreter& interpreter, CallArgs args) {
  if (outer == nullptr) return InvalidArgument("the loop is over and cannot be called");
  if (!definition.recursive) {
    return InvalidArgument("the loop must have the 'recursive' marker to be called");
  }
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("loop", std::move(args), {"iterable"}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(std::string text,
                            interpreter.CaptureLoop(definition, bound[0], outer, depth0 + 1));
  return interpreter.heap().String(std::move(text));
}

StatusOr<bool> CyclerObject::GetAttribute(Interpreter& interpreter, std::string_view name,
                                          Value* out) {
  if (name == "current") {
    *out = items[at];
    return true;
  }
  if (name == "next") return BindMethod(interpreter, "next", CyclerNext, this, out);
  if (name == "reset") return BindMethod(interpreter, "reset", CyclerReset, this, out);
  return false;
}

StatusOr<Value> JoinerObject::Call(Interpreter& interpreter, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("joiner", std::move(args), {}));
  if (used) return separator;
  used = true;
  return interpreter.heap().String("");
}

std::shared_ptr<IteratorObject> FilterLoop(const Stmt& loop, ScopePtr scope,
                                           std::shared_ptr<IteratorObject> source) {
  return std::make_shared<FilteredLoop>(loop, std::move(scope), std::move(source));
}

}  // namespace rollcall::jinja
