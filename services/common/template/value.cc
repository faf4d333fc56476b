#include "services/common/template/value.h"

#include "services/common/template/heap.h"
#include "services/common/text/utf8.h"

namespace rollcall::jinja {
namespace {

// Names come from the template and may be as long as anything.
constexpr size_t kMaxMessageBytes = 300;

struct UndefinedObject : Object {
  std::string message;
};

}  // namespace

Object::~Object() {
  if (heap != nullptr) heap->Release(charged_bytes);
}

Value Value::Bool(bool value) {
  Value result(Kind::kBool);
  result.int_ = value ? 1 : 0;
  return result;
}

Value Value::Int(int64_t value) {
  Value result(Kind::kInt);
  result.int_ = value;
  return result;
}

Value Value::Float(double value) {
  Value result(Kind::kFloat);
  result.float_ = value;
  return result;
}

Value Value::Of(Kind kind, std::shared_ptr<Object> object) {
  Value result(kind);
  result.object_ = std::move(object);
  return result;
}

Value Value::Undefined(std::string_view message) {
  auto object = std::make_shared<UndefinedObject>();
  object->message = TruncateUtf8(message, kMaxMessageBytes);
  return Of(Kind::kUndefined, std::move(object));
}

std::string_view Value::text() const { return string().text; }
const StringObject& Value::string() const { return static_cast<StringObject&>(*object_); }
const std::vector<Value>& Value::items() const { return static_cast<ListObject&>(*object_).items; }
const DictObject& Value::dict() const { return static_cast<DictObject&>(*object_); }
const DictViewObject& Value::dict_view() const { return static_cast<DictViewObject&>(*object_); }
const RangeObject& Value::range() const { return static_cast<RangeObject&>(*object_); }
IteratorObject& Value::iterator() const { return static_cast<IteratorObject&>(*object_); }
NativeObject& Value::native() const { return static_cast<NativeObject&>(*object_); }

std::string Value::undefined_message() const {
  return object_ == nullptr ? "the value is undefined"
                            : static_cast<UndefinedObject&>(*object_).message;
}

const Value* DictObject::FindText(std::string_view key) const {
  const auto it = by_text.find(key);
  return it == by_text.end() ? nullptr : &entries[it->second].second;
}

StatusOr<bool> NativeObject::GetAttribute(Interpreter& /*interpreter*/, std::string_view /*name*/,
                                          Value* /*out*/) {
  return false;
}

StatusOr<Value> NativeObject::Call(Interpreter& /*interpreter*/, CallArgs /*args*/) {
  return InvalidArgument(Describe() + " is not callable");
}

Status NativeObject::SetAttribute(std::string_view name, Value /*value*/) {
  return InvalidArgument("cannot set the attribute '" + std::string(name) + "' of " + Describe() +
                         ": only a namespace() takes attributes");
}

std::string TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.string().is_markup ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kDictView:
      switch (value.dict_view().what) {
        case DictViewObject::What::kKeys:
          return "dict_keys";
        case DictViewObject::What::kValues:
          return "dict_values";
        case DictViewObject::What::kItems:
          return "dict_items";
      }
      return "dict view";
    case Kind::kRange:
      return "range";
    case Kind::kIterator:
      return "generator";
    case Kind::kNative:
      return value.native().Describe();
  }
  return "object";
}

}  // namespace rollcall::jinja
