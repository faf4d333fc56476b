// Values of a template: Python's, as far as a sandboxed template can see them.
//
// Lists, dicts and tuples never change once made (the sandbox forbids it), so values are shared
// freely; a nesting depth kept in each bounds every recursion over them. Not thread-safe: the
// values of one rendering belong to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall::jinja {

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kDictView,  // dict.items() and its kin
  kRange,
  kIterator,  // generators: consumed by use, always true
  kNative,    // namespaces, macros, functions, methods, loop
};

class Heap;
class Interpreter;

// What a value holds by reference. Gives its bytes back to the heap when the last value goes.
struct Object : std::enable_shared_from_this<Object> {
  Object() = default;
  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  Heap* heap = nullptr;  // null for constants of the template
  size_t charged_bytes = 0;
  int depth = 0;
};

struct StringObject;
struct ListObject;
struct DictObject;
struct DictViewObject;
struct RangeObject;
struct IteratorObject;
struct NativeObject;

class Value {
 public:
  Value() = default;  // undefined, without a name
  static Value None() { return Value(Kind::kNone); }
  static Value Bool(bool value);
  static Value Int(int64_t value);
  static Value Float(double value);
  // The object's type must fit the kind.
  static Value Of(Kind kind, std::shared_ptr<Object> object);
  // Undefined, with what to say when it is used.
  static Value Undefined(std::string_view message);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_none() const { return kind_ == Kind::kNone; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  // Bool counts as a number, as in Python.
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }

  // Each is for its own kind only.
  bool as_bool() const { return int_ != 0; }
  int64_t as_int() const { return int_; }  // also of a bool
  double as_float() const { return kind_ == Kind::kFloat ? float_ : static_cast<double>(int_); }
  std::string_view text() const;
  const StringObject& string() const;
  const std::vector<Value>& items() const;  // list, tuple
  const DictObject& dict() const;
  const DictViewObject& dict_view() const;
  const RangeObject& range() const;
  IteratorObject& iterator() const;
  NativeObject& native() const;
  // Undefined: what was looked up in vain.
  std::string undefined_message() const;

  const std::shared_ptr<Object>& object() const { return object_; }
  int depth() const { return object_ == nullptr ? 0 : object_->depth; }

 private:
  explicit Value(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::kUndefined;
  union {
    int64_t int_ = 0;
    double float_;
  };
  std::shared_ptr<Object> object_;
};

struct StringObject : Object {
  std::string text;
  int64_t num_chars = 0;
  bool is_markup = false;  // made by `safe` or `escape`
};

struct ListObject : Object {
  std::vector<Value> items;
  bool is_group = false;  // of groupby: has the attributes grouper and list
};

struct DictObject : Object {
  using Entry = std::pair<Value, Value>;
  std::vector<Entry> entries;  // in the order of insertion, keys are unique
  std::unordered_map<std::string_view, size_t> by_text;  // of the keys that are strings

  // Null when there is none.
  const Value* FindText(std::string_view key) const;
};

struct DictViewObject : Object {
  enum class What { kKeys, kValues, kItems };
  What what = What::kKeys;
  Value dict;
};

struct RangeObject : Object {
  int64_t start = 0, stop = 0, step = 1, size = 0;
};

// A Python iterator. Next() sets *out, or returns false at the end, ever after.
struct IteratorObject : Object {
  virtual StatusOr<bool> Next(Interpreter& interpreter, Value* out) = 0;
};

struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Objects with behaviour of their own.
struct NativeObject : Object {
  // As repr() shows it and as errors name it.
  virtual std::string Describe() const = 0;
  // False when there is no such attribute.
  virtual StatusOr<bool> GetAttribute(Interpreter& interpreter, std::string_view name, Value* out);
  virtual bool is_callable() const { return false; }
  virtual StatusOr<Value> Call(Interpreter& interpreter, CallArgs args);
  // Only a namespace takes attributes.
  virtual Status SetAttribute(std::string_view name, Value value);
};

// Python's name of the type, for messages: "str", "dict", "NoneType".
std::string TypeName(const Value& value);

}  // namespace rollcall::jinja
