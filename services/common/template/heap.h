// Makes the values of one rendering and counts what they cost: bytes that live, steps of work.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/template/limits.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

// Outlives every value it made. Every call fails with kResourceExhausted at a limit, which it
// names.
class Heap {
 public:
  explicit Heap(const TemplateLimits& limits) : limits_(limits) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  const TemplateLimits& limits() const { return limits_; }

  StatusOr<Value> String(std::string text);
  StatusOr<Value> Markup(std::string text);
  // Of the same sort as `like`, which is a string: markup stays markup.
  StatusOr<Value> StringLike(const Value& like, std::string text);
  StatusOr<Value> List(std::vector<Value> items);
  StatusOr<Value> Tuple(std::vector<Value> items);
  StatusOr<Value> Group(Value grouper, Value list);
  // A later entry of an equal key replaces the value of the first. kInvalidArgument: a key that is
  // not hashable.
  StatusOr<Value> Dict(std::vector<DictObject::Entry> entries);
  StatusOr<Value> DictView(Value dict, DictViewObject::What what);
  StatusOr<Value> Range(int64_t start, int64_t stop, int64_t step);
  // Counts an object made elsewhere.
  Status Adopt(Object* object, size_t bytes, int depth);

  // Work done; fails once the limit is passed.
  Status Step(int64_t steps = 1) {
    steps_ += steps;
    if (steps_ > limits_.max_steps) return TooManySteps();
    return OkStatus();
  }
  Status StepBytes(size_t bytes) { return Step(static_cast<int64_t>(bytes / 64)); }
  // Before a string of that size is built.
  Status CheckStringBytes(size_t bytes) const;
  Status CheckStringBytes(size_t count, size_t bytes_each) const;
  // Before that many items are put in a list.
  Status CheckItems(size_t count) const;
  void Release(size_t bytes) { live_bytes_ -= bytes; }

  // Python's hash() succeeds for it.
  static bool IsHashable(const Value& value);
  // The entry of a key, null when there is none; the key is hashable.
  StatusOr<const Value*> Find(const DictObject& dict, const Value& key);

 private:
  Status TooManySteps() const;
  StatusOr<Value> Sequence(Kind kind, std::vector<Value> items, bool is_group);

  const TemplateLimits limits_;
  size_t live_bytes_ = 0;
  int64_t steps_ = 0;
};

}  // namespace rollcall::jinja
