#include "services/common/template/iterate.h"

#include <utility>

#include "services/common/template/operators.h"
#include "services/common/template/unicode.h"

namespace rollcall::jinja {
namespace {

struct EmptyIterator : IteratorObject {
  StatusOr<bool> Next(Interpreter& /*interpreter*/, Value* /*out*/) override { return false; }
};

struct ItemsIterator : IteratorObject {
  explicit ItemsIterator(Value value) : source(std::move(value)) {}
  StatusOr<bool> Next(Interpreter& /*interpreter*/, Value* out) override {
    if (at == source.items().size()) return false;
    *out = source.items()[at++];
    return true;
  }
  const Value source;
  size_t at = 0;
};

struct TextIterator : IteratorObject {
  explicit TextIterator(Value value) : source(std::move(value)) {}
  StatusOr<bool> Next(Interpreter& interpreter, Value* out) override {
    const std::string_view text = source.text();
    if (at == text.size()) return false;
    const size_t begin = at;
    NextChar(text, &at);
    // Characters of markup are plain.
    ROLLCALL_ASSIGN_OR_RETURN(
        *out, interpreter.heap().String(std::string(text.substr(begin, at - begin))));
    return true;
  }
  const Value source;
  size_t at = 0;
};

struct DictIterator : IteratorObject {
  DictIterator(Value value, DictViewObject::What part) : source(std::move(value)), what(part) {}
  StatusOr<bool> Next(Interpreter& interpreter, Value* out) override {
    const auto& entries = source.dict().entries;
    if (at == entries.size()) return false;
    const auto& [key, value] = entries[at++];
    if (what == DictViewObject::What::kItems) {
      ROLLCALL_ASSIGN_OR_RETURN(*out, interpreter.heap().Tuple({key, value}));
    } else {
      *out = what == DictViewObject::What::kKeys ? key : value;
    }
    return true;
  }
  const Value source;
  const DictViewObject::What what;
  size_t at = 0;
};

struct RangeIterator : IteratorObject {
  explicit RangeIterator(Value value) : source(std::move(value)) {}
  StatusOr<bool> Next(Interpreter& /*interpreter*/, Value* out) override {
    const RangeObject& range = source.range();
    if (at == range.size) return false;
    *out = Value::Int(range.start + at++ * range.step);
    return true;
  }
  const Value source;
  int64_t at = 0;
};

struct Generator : IteratorObject {
  explicit Generator(NextFn fn) : next(std::move(fn)) {}
  StatusOr<bool> Next(Interpreter& interpreter, Value* out) override {
    if (next == nullptr) return false;
    if (running) return InvalidArgument("a generator is already running");
    const Interpreter::Level level(interpreter);
    ROLLCALL_RETURN_IF_ERROR(level.Check());
    running = true;
    StatusOr<bool> more = next(interpreter, out);
    running = false;
    // The end and a failure are final, as for a generator of Python.
    if (!more.ok() || !*more) next = nullptr;
    return more;
  }
  NextFn next;
  bool running = false;
};

}  // namespace

bool IsIterable(const Value& value) {
  switch (value.kind()) {
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
    case Kind::kNative:
      return false;
    default:
      return true;
  }
}

StatusOr<std::shared_ptr<IteratorObject>> Iterate(Interpreter& interpreter, const Value& value) {
  std::shared_ptr<IteratorObject> iterator;
  switch (value.kind()) {
    case Kind::kUndefined:
      iterator = std::make_shared<EmptyIterator>();
      break;
    case Kind::kString:
      iterator = std::make_shared<TextIterator>(value);
      break;
    case Kind::kList:
    case Kind::kTuple:
      iterator = std::make_shared<ItemsIterator>(value);
      break;
    case Kind::kDict:
      iterator = std::make_shared<DictIterator>(value, DictViewObject::What::kKeys);
      break;
    case Kind::kDictView:
      iterator = std::make_shared<DictIterator>(value.dict_view().dict, value.dict_view().what);
      break;
    case Kind::kRange:
      iterator = std::make_shared<RangeIterator>(value);
      break;
    case Kind::kIterator:
      return std::static_pointer_cast<IteratorObject>(value.object());
    default:
      return InvalidArgument("a " + TypeName(value) + " is not iterable");
  }
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Adopt(iterator.get(), 0, value.depth()));
  return iterator;
}

StatusOr<std::vector<Value>> Collect(Interpreter& interpreter, const Value& value) {
  Heap& heap = interpreter.heap();
  if (value.is_sequence()) {
    ROLLCALL_RETURN_IF_ERROR(heap.Step(static_cast<int64_t>(value.items().size() / 8)));
    return value.items();
  }
  ROLLCALL_ASSIGN_OR_RETURN(const auto iterator, Iterate(interpreter, value));
  std::vector<Value> items;
  Value item;
  while (true) {
    ROLLCALL_RETURN_IF_ERROR(heap.Step());
    ROLLCALL_RETURN_IF_ERROR(heap.CheckItems(items.size()));
    ROLLCALL_ASSIGN_OR_RETURN(const bool more, iterator->Next(interpreter, &item));
    if (!more) return items;
    items.push_back(std::move(item));
  }
}

StatusOr<Value> MakeGenerator(Heap& heap, int depth, NextFn next) {
  auto generator = std::make_shared<Generator>(std::move(next));
  ROLLCALL_RETURN_IF_ERROR(heap.Adopt(generator.get(), 0, depth + 1));
  return Value::Of(Kind::kIterator, std::move(generator));
}

}  // namespace rollcall::jinja
