// object.name and object[key], and the methods of dicts, lists and tuples.
#include <algorithm>
#include <cmath>
#include <utility>

#include "services/common/template/arguments.h"
#include "services/common/template/interpreter.h"
#include "services/common/template/iterate.h"
#include "services/common/template/methods.h"
#include "services/common/template/operators.h"
#include "services/common/template/unicode.h"
#include "services/common/template/value_text.h"

namespace rollcall::jinja {
namespace {

using Sort = Method::Sort;

StatusOr<Value> DictGet(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("dict.get", std::move(args), {"", ""}, 1));
  if (!Heap::IsHashable(bound[0])) {
    return InvalidArgument("a " + TypeName(bound[0]) + " cannot be the key of a dict");
  }
  ROLLCALL_ASSIGN_OR_RETURN(const Value* found, interpreter.heap().Find(self.dict(), bound[0]));
  return found != nullptr ? *found : bound.Or(1, Value::None());
}

template <DictViewObject::What what>
StatusOr<Value> DictViewOf(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("dict view", std::move(args), {}));
  return interpreter.heap().DictView(self, what);
}

// Values never change, so a copy is the value.
StatusOr<Value> Copy(Interpreter& /*interpreter*/, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("copy", std::move(args), {}));
  return self;
}

StatusOr<Value> SequenceCount(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("count", std::move(args), {""}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const auto items, Collect(interpreter, self));
  int64_t count = 0;
  for (const Value& item : items) {
    ROLLCALL_ASSIGN_OR_RETURN(const bool equal, Equal(interpreter.heap(), item, bound[0]));
    count += equal ? 1 : 0;
  }
  return Value::Int(count);
}

StatusOr<Value> SequenceIndex(Interpreter& interpreter, const Value& self, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("index", std::move(args), {"", "", ""}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const auto items, Collect(interpreter, self));
  const auto size = static_cast<int64_t>(items.size());
  ROLLCALL_ASSIGN_OR_RETURN(int64_t begin, bound.Int(1, 0));
  ROLLCALL_ASSIGN_OR_RETURN(int64_t end, bound.Int(2, size));
  if (begin < 0) begin = std::max<int64_t>(0, begin < -size ? 0 : begin + size);
  if (end < 0) end = end < -size ? 0 : end + size;
  for (int64_t i = begin; i < std::min(end, size); ++i) {
    ROLLCALL_ASSIGN_OR_RETURN(const bool equal,
                              Equal(interpreter.heap(), items[static_cast<size_t>(i)], bound[0]));
    if (equal) return Value::Int(i);
  }
  return InvalidArgument("index(): the value is not in the " + TypeName(self));
}

constexpr Method kDictMethods[] = {
    {"clear", Sort::kForbidden},
    {"copy", Sort::kSupported, Copy},
    {"fromkeys", Sort::kUnsupported},
    {"get", Sort::kSupported, DictGet},
    {"items", Sort::kSupported, DictViewOf<DictViewObject::What::kItems>},
    {"keys", Sort::kSupported, DictViewOf<DictViewObject::What::kKeys>},
    {"pop", Sort::kForbidden},
    {"popitem", Sort::kForbidden},
    {"setdefault", Sort::kForbidden},
    {"update", Sort::kForbidden},
    {"values", Sort::kSupported, DictViewOf<DictViewObject::What::kValues>},
};
constexpr Method kListMethods[] = {
    {"append", Sort::kForbidden},     {"clear", Sort::kForbidden},
    {"copy", Sort::kSupported, Copy}, {"count", Sort::kSupported, SequenceCount},
    {"extend", Sort::kForbidden},     {"index", Sort::kSupported, SequenceIndex},
    {"insert", Sort::kForbidden},     {"pop", Sort::kForbidden},
    {"remove", Sort::kForbidden},     {"reverse", Sort::kForbidden},
    {"sort", Sort::kForbidden},
};
constexpr Method kTupleMethods[] = {
    {"count", Sort::kSupported, SequenceCount},
    {"index", Sort::kSupported, SequenceIndex},
};

std::string HasNo(const Value& object, std::string_view what, const std::string& name) {
  const std::string type = object.is_none() ? "None" : TypeName(object) + " object";
  return "'" + type + "' has no " + std::string(what) + " " + name;
}

}  // namespace

std::span<const Method> DictMethods() { return kDictMethods; }
std::span<const Method> ListMethods() { return kListMethods; }
std::span<const Method> TupleMethods() { return kTupleMethods; }

const Method* FindMethod(const Value& value, std::string_view name) {
  std::span<const Method> methods;
  switch (value.kind()) {
    case Kind::kString:
      methods = StringMethods();
      break;
    case Kind::kDict:
      methods = DictMethods();
      break;
    case Kind::kList:
      methods = ListMethods();
      break;
    case Kind::kTuple:
    case Kind::kRange:
      methods = TupleMethods();
      break;
    default:
      return nullptr;
  }
  const auto it = std::find_if(methods.begin(), methods.end(),
                               [&](const Method& method) { return method.name == name; });
  return it == methods.end() ? nullptr : &*it;
}

namespace {

// An attribute that Python's type itself has; false when it has none of that name.
StatusOr<bool> TypeAttribute(Interpreter& interpreter, const Value& object, std::string_view name,
                             Value* out) {
  if (object.is(Kind::kNative)) {
    ROLLCALL_ASSIGN_OR_RETURN(const bool found,
                              object.native().GetAttribute(interpreter, name, out));
    return found;
  }
  if (object.is(Kind::kTuple) && static_cast<ListObject&>(*object.object()).is_group) {
    if (name == "grouper" || name == "list") {
      *out = object.items()[name == "list" ? 1 : 0];
      return true;
    }
  }
  const Method* method = FindMethod(object, name);
  if (method == nullptr) return false;
  switch (method->sort) {
    case Sort::kUnsupported:
      return Unimplemented(TypeName(object) + "." + std::string(name) + "() is not supported");
    case Sort::kForbidden:
      *out = Value::Undefined("access to '" + std::string(name) + "' of a " + TypeName(object) +
                              " is not allowed: a template cannot change a value");
      return true;
    case Sort::kSupported:
      break;
  }
  auto bound = std::make_shared<MethodObject>(method->name, method->fn, object);
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Adopt(bound.get(), 0, object.depth()));
  *out = Value::Of(Kind::kNative, std::move(bound));
  return true;
}

// object[key] of Python, without its errors: false where Python raises.
StatusOr<bool> TypeItem(Interpreter& interpreter, const Value& object, const Value& key,
                        Value* out) {
  if (object.is(Kind::kDict)) {
    if (!Heap::IsHashable(key)) return false;
    ROLLCALL_ASSIGN_OR_RETURN(const Value* found, interpreter.heap().Find(object.dict(), key));
    if (found != nullptr) *out = *found;
    return found != nullptr;
  }
  if (!key.is_integral()) return false;
  if (!object.is_string() && !object.is_sequence() && !object.is(Kind::kRange)) return false;
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t size, Length(object));
  int64_t index = key.as_int();
  if (index < 0) index += size;
  if (index < 0 || index >= size) return false;
  if (object.is_sequence()) {
    *out = object.items()[static_cast<size_t>(index)];
  } else if (object.is(Kind::kRange)) {
    *out = Value::Int(object.range().start + index * object.range().step);
  } else {
    ROLLCALL_ASSIGN_OR_RETURN(*out, Slice(interpreter.heap(), object, Value::Int(index),
                                          Value::Int(index + 1), Value::None()));
  }
  return true;
}

}  // namespace

StatusOr<Value> Interpreter::GetAttribute(const Value& object, std::string_view name) {
  const bool is_dunder = name.starts_with("__") && name.ends_with("__");
  if (is_dunder && !object.is(Kind::kDict) && (!object.is_undefined() || name == "__class__")) {
    // Python has it on every object, and the sandbox gives it to nobody.
    return Value::Undefined("access to the attribute '" + std::string(name) + "' is not allowed");
  }
  if (object.is_undefined()) return UndefinedError(object);
  Value value;
  ROLLCALL_ASSIGN_OR_RETURN(const bool found, TypeAttribute(*this, object, name, &value));
  if (found) return value;
  if (object.is(Kind::kDict)) {
    if (const Value* item = object.dict().FindText(name)) return *item;
  }
  return Value::Undefined(HasNo(object, "attribute", "'" + std::string(name) + "'"));
}

StatusOr<Value> Interpreter::GetItem(const Value& object, const Value& key) {
  if (object.is_undefined()) return UndefinedError(object);
  Value value;
  ROLLCALL_ASSIGN_OR_RETURN(bool found, TypeItem(*this, object, key, &value));
  if (found) return value;
  if (key.is_string()) {
    ROLLCALL_ASSIGN_OR_RETURN(found, TypeAttribute(*this, object, key.text(), &value));
    if (found) return value;
    return Value::Undefined(HasNo(object, "attribute", ReprText(key.text())));
  }
  ROLLCALL_ASSIGN_OR_RETURN(const std::string shown, Repr(heap_, key));
  return Value::Undefined(HasNo(object, "element", shown));
}

}  // namespace rollcall::jinja
