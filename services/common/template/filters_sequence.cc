// Filters over lists, dicts and whatever else iterates.
#include <algorithm>
#include <iterator>
#include <memory>
#include <unordered_set>
#include <utility>

#include "services/common/template/arguments.h"
#include "services/common/template/filters.h"
#include "services/common/template/iterate.h"
#include "services/common/template/methods.h"
#include "services/common/template/operators.h"
#include "services/common/template/unicode.h"

namespace rollcall::jinja {
namespace {

// A text in lower case, unless case counts.
StatusOr<Value> FoldCase(Interpreter& interpreter, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().CheckStringBytes(value.text().size(), 3));
  return interpreter.heap().StringLike(value, ToLower(value.text()));
}

StatusOr<Value> FoldedAttribute(Interpreter& interpreter, const Value& item, const Value& path,
                                const Value* fallback, bool case_sensitive) {
  ROLLCALL_ASSIGN_OR_RETURN(const Value value, AttributePath(interpreter, item, path, fallback));
  return FoldCase(interpreter, value, case_sensitive);
}

// The items in the order of their keys, equal ones as they were.
StatusOr<std::vector<Value>> SortedBy(Interpreter& interpreter, std::vector<Value> items,
                                      const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  Status failed;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (!failed.ok()) return false;
    const StatusOr<bool> less =
        Less(interpreter.heap(), reverse ? keys[b] : keys[a], reverse ? keys[a] : keys[b]);
    if (!less.ok()) failed = less.status();
    return less.ok() && *less;
  });
  ROLLCALL_RETURN_IF_ERROR(failed);
  std::vector<Value> sorted;
  sorted.reserve(items.size());
  for (const size_t i : order) sorted.push_back(std::move(items[i]));
  return sorted;
}

StatusOr<Value> Sort(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(
      const BoundArgs bound,
      BindArgs("sort", std::move(args), {"reverse", "case_sensitive", "attribute"}));
  ROLLCALL_ASSIGN_OR_RETURN(std::vector<Value> items, Collect(interpreter, value));
  // Several attributes may be given with commas between them.
  std::vector<Value> paths;
  const Value attribute = bound.Or(2, Value::None());
  if (attribute.is_string()) {
    std::string_view rest = attribute.text();
    while (true) {
      const size_t comma = rest.find(',');
      ROLLCALL_ASSIGN_OR_RETURN(Value path,
                                interpreter.heap().String(std::string(rest.substr(0, comma))));
      paths.push_back(std::move(path));
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  } else {
    paths.push_back(attribute);
  }
  std::vector<Value> keys;
  keys.reserve(items.size());
  for (const Value& item : items) {
    std::vector<Value> parts;
    for (const Value& path : paths) {
      ROLLCALL_ASSIGN_OR_RETURN(Value part,
                                FoldedAttribute(interpreter, item, path, nullptr, bound.IsTrue(1)));
      parts.push_back(std::move(part));
    }
    ROLLCALL_ASSIGN_OR_RETURN(Value key, interpreter.heap().List(std::move(parts)));
    keys.push_back(std::move(key));
  }
  ROLLCALL_ASSIGN_OR_RETURN(items, SortedBy(interpreter, std::move(items), keys, bound.IsTrue(0)));
  return interpreter.heap().List(std::move(items));
}

StatusOr<Value> DictSort(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("dictsort", std::move(args),
                                                            {"case_sensitive", "by", "reverse"}));
  if (value.is_undefined()) return UndefinedError(value);
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view by, bound.Text(1, "key"));
  if (by != "key" && by != "value") {
    return InvalidArgument("dictsort: 'by' must be \"key\" or \"value\"");
  }
  if (!value.is(Kind::kDict)) {
    return InvalidArgument("dictsort takes a dict, not a " + TypeName(value));
  }
  std::vector<Value> items;
  std::vector<Value> keys;
  for (const auto& [key, item] : value.dict().entries) {
    ROLLCALL_ASSIGN_OR_RETURN(Value pair, interpreter.heap().Tuple({key, item}));
    items.push_back(std::move(pair));
    ROLLCALL_ASSIGN_OR_RETURN(Value sort_key,
                              FoldCase(interpreter, by == "key" ? key : item, bound.IsTrue(0)));
    keys.push_back(std::move(sort_key));
  }
  ROLLCALL_ASSIGN_OR_RETURN(items, SortedBy(interpreter, std::move(items), keys, bound.IsTrue(2)));
  return interpreter.heap().List(std::move(items));
}

StatusOr<Value> GroupBy(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(
      const BoundArgs bound,
      BindArgs("groupby", std::move(args), {"attribute", "default", "case_sensitive"}, 1));
  const Value* fallback = bound.Has(1) && !bound[1].is_none() ? &bound[1] : nullptr;
  ROLLCALL_ASSIGN_OR_RETURN(std::vector<Value> items, Collect(interpreter, value));
  const auto key_of = [&](const Value& item) {
    return FoldedAttribute(interpreter, item, bound[0], fallback, bound.IsTrue(2));
  };
  std::vector<Value> keys;
  for (const Value& item : items) {
    ROLLCALL_ASSIGN_OR_RETURN(Value key, key_of(item));
    keys.push_back(std::move(key));
  }
  ROLLCALL_ASSIGN_OR_RETURN(items, SortedBy(interpreter, std::move(items), keys, false));
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size();) {
    ROLLCALL_ASSIGN_OR_RETURN(const Value key, key_of(items[begin]));
    size_t end = begin + 1;
    for (; end < items.size(); ++end) {
      ROLLCALL_ASSIGN_OR_RETURN(const Value other, key_of(items[end]));
      ROLLCALL_ASSIGN_OR_RETURN(const bool equal, Equal(interpreter.heap(), key, other));
      if (!equal) break;
    }
    ROLLCALL_ASSIGN_OR_RETURN(const Value grouper,
                              FoldedAttribute(interpreter, items[begin], bound[0], fallback, true));
    ROLLCALL_ASSIGN_OR_RETURN(const Value list, interpreter.heap().List(std::vector<Value>(
                                                    items.begin() + static_cast<ptrdiff_t>(begin),
                                                    items.begin() + static_cast<ptrdiff_t>(end))));
    ROLLCALL_ASSIGN_OR_RETURN(Value group, interpreter.heap().Group(grouper, list));
    groups.push_back(std::move(group));
    begin = end;
  }
  return interpreter.heap().List(std::move(groups));
}

template <CompareOp better>
StatusOr<Value> Extreme(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("min", std::move(args), {"case_sensitive", "attribute"}));
  ROLLCALL_ASSIGN_OR_RETURN(const auto items, Collect(interpreter, value));
  if (items.empty()) return Value::Undefined("no aggregated item: the sequence was empty");
  const Value path = bound.Or(1, Value::None());
  size_t best = 0;
  Value best_key;
  for (size_t i = 0; i < items.size(); ++i) {
    ROLLCALL_ASSIGN_OR_RETURN(
        Value key, FoldedAttribute(interpreter, items[i], path, nullptr, bound.IsTrue(0)));
    if (i > 0) {
      ROLLCALL_ASSIGN_OR_RETURN(const bool is_better,
                                Compare(interpreter.heap(), better, key, best_key));
      if (!is_better) continue;
    }
    best = i;
    best_key = std::move(key);
  }
  return items[best];
}

StatusOr<Value> First(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("first", std::move(args), {}));
  ROLLCALL_ASSIGN_OR_RETURN(const auto iterator, Iterate(interpreter, value));
  Value item;
  ROLLCALL_ASSIGN_OR_RETURN(const bool more, iterator->Next(interpreter, &item));
  return more ? item : Value::Undefined("no first item: the sequence was empty");
}

StatusOr<Value> Last(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("last", std::move(args), {}));
  const Value empty = Value::Undefined("no last item: the sequence was empty");
  if (value.is_undefined()) return empty;
  if (value.is(Kind::kIterator)) return InvalidArgument("last does not take a generator: use list");
  if (value.is_string()) {
    if (value.text().empty()) return empty;
    return Slice(interpreter.heap(), value, Value::Int(-1), Value::None(), Value::None());
  }
  ROLLCALL_ASSIGN_OR_RETURN(const auto items, Collect(interpreter, value));
  return items.empty() ? empty : items.back();
}

StatusOr<Value> List(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("list", std::move(args), {}));
  ROLLCALL_ASSIGN_OR_RETURN(auto items, Collect(interpreter, value));
  return interpreter.heap().List(std::move(items));
}

StatusOr<Value> Generate(Interpreter& interpreter, const Value& list) {
  ROLLCALL_ASSIGN_OR_RETURN(auto iterator, Iterate(interpreter, list));
  return Value::Of(Kind::kIterator, std::move(iterator));
}

StatusOr<Value> Reverse(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("reverse", std::move(args), {}));
  if (value.is_string()) {
    return Slice(interpreter.heap(), value, Value::None(), Value::None(), Value::Int(-1));
  }
  ROLLCALL_ASSIGN_OR_RETURN(auto items, Collect(interpreter, value));
  std::reverse(items.begin(), items.end());
  ROLLCALL_ASSIGN_OR_RETURN(const Value list, interpreter.heap().List(std::move(items)));
  // A generator cannot run backwards, and is made a list of.
  return value.is(Kind::kIterator) ? list : Generate(interpreter, list);
}

StatusOr<Value> Items(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("items", std::move(args), {}));
  if (value.is(Kind::kDict)) {
    ROLLCALL_ASSIGN_OR_RETURN(const Value view,
                              interpreter.heap().DictView(value, DictViewObject::What::kItems));
    return Generate(interpreter, view);
  }
  return MakeGenerator(interpreter.heap(), value.depth(),
                       [value](Interpreter& /*inner*/, Value* /*out*/) -> StatusOr<bool> {
                         if (value.is_undefined()) return false;
                         return InvalidArgument("items takes a mapping, not a " + TypeName(value));
                       });
}

StatusOr<Value> Unique(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("unique", std::move(args), {"case_sensitive", "attribute"}));
  const bool case_sensitive = bound.IsTrue(0);
  const Value path = bound.Or(1, Value::None());
  ROLLCALL_ASSIGN_OR_RETURN(auto source, Iterate(interpreter, value));
  struct Seen {
    std::unordered_set<std::string> texts;
    std::vector<Value> others;
  };
  return MakeGenerator(
      interpreter.heap(), value.depth(),
      [source, path, case_sensitive, seen = std::make_shared<Seen>()](
          Interpreter& inner, Value* out) -> StatusOr<bool> {
        while (true) {
          ROLLCALL_RETURN_IF_ERROR(inner.heap().Step());
          ROLLCALL_ASSIGN_OR_RETURN(const bool more, source->Next(inner, out));
          if (!more) return false;
          ROLLCALL_ASSIGN_OR_RETURN(const Value key,
                                    FoldedAttribute(inner, *out, path, nullptr, case_sensitive));
          if (!Heap::IsHashable(key)) {
            return InvalidArgument("unique: a " + TypeName(key) + " cannot be compared by hash");
          }
          if (key.is_string()) {
            if (seen->texts.emplace(key.text()).second) return true;
            continue;
          }
          bool known = false;
          for (size_t i = 0; i < seen->others.size() && !known; ++i) {
            ROLLCALL_ASSIGN_OR_RETURN(known, Equal(inner.heap(), seen->others[i], key));
          }
          if (known) continue;
          seen->others.push_back(key);
          return true;
        }
      });
}

StatusOr<Value> Batch(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("batch", std::move(args), {"linecount", "fill_with"}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t size, bound.Int(0, 1));
  const Value fill = bound.Or(1, Value::None());
  ROLLCALL_ASSIGN_OR_RETURN(const auto items, Collect(interpreter, value));
  std::vector<Value> batches;
  std::vector<Value> batch;
  const auto flush = [&]() -> Status {
    ROLLCALL_ASSIGN_OR_RETURN(Value list, interpreter.heap().List(std::move(batch)));
    batches.push_back(std::move(list));
    batch.clear();
    return OkStatus();
  };
  for (const Value& item : items) {
    if (static_cast<int64_t>(batch.size()) == size) ROLLCALL_RETURN_IF_ERROR(flush());
    batch.push_back(item);
  }
  if (!batch.empty()) {
    if (!fill.is_none() && static_cast<int64_t>(batch.size()) < size) {
      ROLLCALL_RETURN_IF_ERROR(interpreter.heap().CheckItems(static_cast<size_t>(size)));
      ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Step(size));
      batch.resize(static_cast<size_t>(size), fill);
    }
    ROLLCALL_RETURN_IF_ERROR(flush());
  }
  ROLLCALL_ASSIGN_OR_RETURN(const Value list, interpreter.heap().List(std::move(batches)));
  return Generate(interpreter, list);
}

StatusOr<Value> SliceFilter(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("slice", std::move(args), {"slices", "fill_with"}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t slices, bound.Int(0, 1));
  if (slices == 0) return InvalidArgument("slice: a number of slices other than zero is needed");
  const Value fill = bound.Or(1, Value::None());
  ROLLCALL_ASSIGN_OR_RETURN(const auto items, Collect(interpreter, value));
  ROLLCALL_RETURN_IF_ERROR(
      interpreter.heap().CheckItems(static_cast<size_t>(std::max<int64_t>(slices, 0))));
  const int64_t size = static_cast<int64_t>(items.size());
  std::vector<Value> lists;
  int64_t begin = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const bool has_extra = i < size % slices;
    const int64_t end = begin + size / slices + (has_extra ? 1 : 0);
    std::vector<Value> part(items.begin() + begin, items.begin() + end);
    if (!fill.is_none() && !has_extra) part.push_back(fill);
    ROLLCALL_ASSIGN_OR_RETURN(Value list, interpreter.heap().List(std::move(part)));
    lists.push_back(std::move(list));
    begin = end;
  }
  ROLLCALL_ASSIGN_OR_RETURN(const Value list, interpreter.heap().List(std::move(lists)));
  return Generate(interpreter, list);
}

StatusOr<Value> Attr(Interpreter& interpreter, const Value& value, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("attr", std::move(args), {"name"}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view name, bound.Text(0, {}));
  if (value.is(Kind::kDict) && FindMethod(value, name) == nullptr) {
    return Value::Undefined("a dict has no attribute '" + std::string(name) + "'");
  }
  return interpreter.GetAttribute(value, name);
}

constexpr NamedFilter kFilters[] = {
    {"attr", Attr},
    {"batch", Batch},
    {"dictsort", DictSort},
    {"first", First},
    {"groupby", GroupBy},
    {"items", Items},
    {"last", Last},
    {"list", List},
    {"max", Extreme<CompareOp::kGt>},
    {"min", Extreme<CompareOp::kLt>},
    {"reverse", Reverse},
    {"slice", SliceFilter},
    {"sort", Sort},
    {"unique", Unique},
};

}  // namespace

FilterFn FindSequenceFilter(std::string_view name) {
  const auto* it = std::find_if(std::begin(kFilters), std::end(kFilters),
                                [&](const NamedFilter& filter) { return filter.name == name; });
  return it == std::end(kFilters) ? nullptr : it->fn;
}

}  // namespace rollcall::jinja
