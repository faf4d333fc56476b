#include "services/common/template/heap.h"

#include <algorithm>
#include <utility>

#include "services/common/template/operators.h"
#include "services/common/template/unicode.h"

namespace rollcall::jinja {
namespace {

constexpr size_t kObjectBytes = 64;

std::string Mib(size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

int MaxDepth(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth;
}

}  // namespace

Status Heap::TooManySteps() const {
  return ResourceExhausted("the template does more than the allowed " +
                           std::to_string(limits_.max_steps) + " steps of work");
}

Status Heap::Adopt(Object* object, size_t bytes, int depth) {
  if (depth > 2 * limits_.max_value_depth) {
    return ResourceExhausted("values are nested deeper than the limit of " +
                             std::to_string(2 * limits_.max_value_depth));
  }
  const size_t charged = bytes + kObjectBytes;
  if (charged > limits_.max_live_bytes - std::min(live_bytes_, limits_.max_live_bytes)) {
    return ResourceExhausted("the values of the template take more than the limit of " +
                             Mib(limits_.max_live_bytes));
  }
  live_bytes_ += charged;
  object->heap = this;
  object->charged_bytes = charged;
  object->depth = depth;
  return OkStatus();
}

Status Heap::CheckStringBytes(size_t bytes) const {
  if (bytes <= limits_.max_string_bytes) return OkStatus();
  return ResourceExhausted("a text of " + std::to_string(bytes) + " bytes is over the limit of " +
                           Mib(limits_.max_string_bytes));
}

Status Heap::CheckStringBytes(size_t count, size_t bytes_each) const {
  if (bytes_each == 0 || count <= limits_.max_string_bytes / bytes_each) return OkStatus();
  return ResourceExhausted("a text of " + std::to_string(count) + " times " +
                           std::to_string(bytes_each) + " bytes is over the limit of " +
                           Mib(limits_.max_string_bytes));
}

Status Heap::CheckItems(size_t count) const {
  if (count <= limits_.max_live_bytes / sizeof(Value)) return OkStatus();
  return ResourceExhausted("a list of " + std::to_string(count) +
                           " items takes more than the limit of " + Mib(limits_.max_live_bytes));
}

StatusOr<Value> Heap::String(std::string text) {
  ROLLCALL_RETURN_IF_ERROR(CheckStringBytes(text.size()));
  ROLLCALL_RETURN_IF_ERROR(StepBytes(text.size()));
  auto object = std::make_shared<StringObject>();
  ROLLCALL_RETURN_IF_ERROR(Adopt(object.get(), text.size(), 0));
  object->num_chars = CountChars(text);
  object->text = std::move(text);
  return Value::Of(Kind::kString, std::move(object));
}

StatusOr<Value> Heap::Markup(std::string text) {
  ROLLCALL_ASSIGN_OR_RETURN(Value value, String(std::move(text)));
  static_cast<StringObject&>(*value.object()).is_markup = true;
  return value;
}

StatusOr<Value> Heap::StringLike(const Value& like, std::string text) {
  return like.string().is_markup ? Markup(std::move(text)) : String(std::move(text));
}

StatusOr<Value> Heap::Sequence(Kind kind, std::vector<Value> items, bool is_group) {
  ROLLCALL_RETURN_IF_ERROR(Step(1 + static_cast<int64_t>(items.size() / 8)));
  auto object = std::make_shared<ListObject>();
  ROLLCALL_RETURN_IF_ERROR(
      Adopt(object.get(), items.capacity() * sizeof(Value), MaxDepth(items) + 1));
  object->items = std::move(items);
  object->is_group = is_group;
  return Value::Of(kind, std::move(object));
}

StatusOr<Value> Heap::List(std::vector<Value> items) {
  return Sequence(Kind::kList, std::move(items), false);
}

StatusOr<Value> Heap::Tuple(std::vector<Value> items) {
  return Sequence(Kind::kTuple, std::move(items), false);
}

StatusOr<Value> Heap::Group(Value grouper, Value list) {
  std::vector<Value> items;
  items.push_back(std::move(grouper));
  items.push_back(std::move(list));
  return Sequence(Kind::kTuple, std::move(items), true);
}

bool Heap::IsHashable(const Value& value) {
  if (value.is(Kind::kTuple)) {
    return std::all_of(value.items().begin(), value.items().end(), IsHashable);
  }
  return !value.is(Kind::kList) && !value.is(Kind::kDict) && !value.is(Kind::kDictView);
}

StatusOr<const Value*> Heap::Find(const DictObject& dict, const Value& key) {
  if (key.is_string()) return dict.FindText(key.text());
  for (const auto& [have, value] : dict.entries) {
    ROLLCALL_RETURN_IF_ERROR(Step());
    if (have.is_string()) continue;
    ROLLCALL_ASSIGN_OR_RETURN(const bool equal, Equal(*this, have, key));
    if (equal) return &value;
  }
  return nullptr;
}

StatusOr<Value> Heap::Dict(std::vector<DictObject::Entry> entries) {
  ROLLCALL_RETURN_IF_ERROR(Step(1 + static_cast<int64_t>(entries.size() / 4)));
  auto object = std::make_shared<DictObject>();
  object->entries.reserve(entries.size());
  int depth = 0;
  for (auto& [key, value] : entries) {
    if (!IsHashable(key)) {
      return InvalidArgument("a " + TypeName(key) + " cannot be the key of a dict");
    }
    depth = std::max({depth, key.depth(), value.depth()});
    ROLLCALL_ASSIGN_OR_RETURN(const Value* have, Find(*object, key));
    if (have != nullptr) {
      // The entry belongs to the object that is being built.
      *const_cast<Value*>(have) = std::move(value);
      continue;
    }
    object->entries.emplace_back(std::move(key), std::move(value));
    const Value& stored = object->entries.back().first;
    if (stored.is_string()) object->by_text.emplace(stored.text(), object->entries.size() - 1);
  }
  // An entry of the index costs about as much as one of the vector.
  ROLLCALL_RETURN_IF_ERROR(
      Adopt(object.get(), object->entries.size() * 2 * sizeof(DictObject::Entry), depth + 1));
  return Value::Of(Kind::kDict, std::move(object));
}

StatusOr<Value> Heap::DictView(Value dict, DictViewObject::What what) {
  auto object = std::make_shared<DictViewObject>();
  ROLLCALL_RETURN_IF_ERROR(Adopt(object.get(), 0, dict.depth() + 1));
  object->what = what;
  object->dict = std::move(dict);
  return Value::Of(Kind::kDictView, std::move(object));
}

StatusOr<Value> Heap::Range(int64_t start, int64_t stop, int64_t step) {
  if (step == 0) return InvalidArgument("range() with a step of zero");
  uint64_t size = 0;
  if (step > 0 && start < stop) {
    size = (static_cast<uint64_t>(stop) - static_cast<uint64_t>(start) - 1) /
               static_cast<uint64_t>(step) +
           1;
  } else if (step < 0 && start > stop) {
    size = (static_cast<uint64_t>(start) - static_cast<uint64_t>(stop) - 1) /
               (uint64_t{0} - static_cast<uint64_t>(step)) +
           1;
  }
  if (size > static_cast<uint64_t>(limits_.max_range)) {
    return ResourceExhausted("range() of " + std::to_string(size) + " items is over the limit of " +
                             std::to_string(limits_.max_range));
  }
  auto object = std::make_shared<RangeObject>();
  ROLLCALL_RETURN_IF_ERROR(Adopt(object.get(), 0, 0));
  object->start = start;
  object->stop = stop;
  object->step = step;
  object->size = static_cast<int64_t>(size);
  return Value::Of(Kind::kRange, std::move(object));
}

}  // namespace rollcall::jinja
