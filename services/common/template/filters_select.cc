// Filters that run other filters and tests over items, lazily as generators.
#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "services/common/template/filters.h"
#include "services/common/template/iterate.h"
#include "services/common/template/operators.h"

namespace rollcall::jinja {
namespace {

// What a generator has read so far: the source is opened at the first item, so that one which is
// never used never fails.
struct Source {
  explicit Source(Value source_value) : value(std::move(source_value)) {}
  StatusOr<bool> Next(Interpreter& interpreter, Value* out) {
    ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Step());
    if (iterator == nullptr) {
      if (!IsTrue(value)) return false;
      ROLLCALL_ASSIGN_OR_RETURN(iterator, Iterate(interpreter, value));
    }
    return iterator->Next(interpreter, out);
  }
  const Value value;
  std::shared_ptr<IteratorObject> iterator;
};

int DepthOf(const Value& value, const CallArgs& args) {
  int depth = value.depth();
  for (const Value& arg : args.positional) depth = std::max(depth, arg.depth());
  for (const auto& [name, arg] : args.named) depth = std::max(depth, arg.depth());
  return depth;
}

bool TakeNamed(CallArgs* args, std::string_view name, Value* out) {
  const auto it = std::find_if(args->named.begin(), args->named.end(),
                               [&](const auto& entry) { return entry.first == name; });
  if (it == args->named.end()) return false;
  *out = std::move(it->second);
  args->named.erase(it);
  return true;
}

StatusOr<Value> Map(Interpreter& interpreter, const Value& value, CallArgs args) {
  const int depth = DepthOf(value, args);
  auto source = std::make_shared<Source>(value);
  auto shared = std::make_shared<CallArgs>(std::move(args));
  return MakeGenerator(
      interpreter.heap(), depth,
      [source, shared, attribute = Value(), fallback = Value(), prepared = false,
       by_attribute = false,
       has_fallback = false](Interpreter& inner, Value* out) mutable -> StatusOr<bool> {
        if (!prepared && IsTrue(source->value)) {
          prepared = true;
          by_attribute =
              shared->positional.empty() && TakeNamed(shared.get(), "attribute", &attribute);
          if (by_attribute) {
            has_fallback = TakeNamed(shared.get(), "default", &fallback) && !fallback.is_none();
            if (!shared->named.empty()) {
              return InvalidArgument("map takes no argument named '" + shared->named[0].first +
                                     "'");
            }
          } else if (shared->positional.empty() || !shared->positional[0].is_string()) {
            return InvalidArgument("map wants the name of a filter, or attribute=");
          }
        }
        Value item;
        ROLLCALL_ASSIGN_OR_RETURN(const bool more, source->Next(inner, &item));
        if (!more) return false;
        if (by_attribute) {
          ROLLCALL_ASSIGN_OR_RETURN(
              *out, AttributePath(inner, item, attribute, has_fallback ? &fallback : nullptr));
          return true;
        }
        CallArgs passed;
        passed.positional.assign(shared->positional.begin() + 1, shared->positional.end());
        passed.named = shared->named;
        ROLLCALL_ASSIGN_OR_RETURN(*out, inner.CallFilter(std::string(shared->positional[0].text()),
                                                         item, std::move(passed)));
        return true;
      });
}

// select and reject, over the items themselves or over an attribute of each.
template <bool wanted, bool by_attribute>
StatusOr<Value> Select(Interpreter& interpreter, const Value& value, CallArgs args) {
  const int depth = DepthOf(value, args);
  auto source = std::make_shared<Source>(value);
  auto shared = std::make_shared<const CallArgs>(std::move(args));
  constexpr size_t kOffset = by_attribute ? 1 : 0;
  return MakeGenerator(
      interpreter.heap(), depth,
      [source, shared](Interpreter& inner, Value* out) -> StatusOr<bool> {
        while (true) {
          ROLLCALL_ASSIGN_OR_RETURN(const bool more, source->Next(inner, out));
          if (!more) return false;
          if (shared->positional.size() < kOffset) {
            return InvalidArgument("selectattr and rejectattr want the name of an attribute");
          }
          Value subject = *out;
          if (by_attribute) {
            ROLLCALL_ASSIGN_OR_RETURN(
                subject, AttributePath(inner, subject, shared->positional[0], nullptr));
          }
          bool holds = false;
          if (shared->positional.size() > kOffset) {
            const Value& name = shared->positional[kOffset];
            if (!name.is_string()) return InvalidArgument("the name of a test must be a text");
            CallArgs passed;
            passed.positional.assign(
                shared->positional.begin() + static_cast<ptrdiff_t>(kOffset) + 1,
                shared->positional.end());
            passed.named = shared->named;
            ROLLCALL_ASSIGN_OR_RETURN(
                holds, inner.CallTest(std::string(name.text()), subject, std::move(passed)));
          } else {
            holds = IsTrue(subject);
          }
          if (holds == wanted) return true;
        }
      });
}

constexpr NamedFilter kFilters[] = {
    {"map", Map},
    {"reject", Select<false, false>},
    {"rejectattr", Select<false, true>},
    {"select", Select<true, false>},
    {"selectattr", Select<true, true>},
};

}  // namespace

FilterFn FindSelectFilter(std::string_view name) {
  const auto* it = std::find_if(std::begin(kFilters), std::end(kFilters),
                                [&](const NamedFilter& filter) { return filter.name == name; });
  return it == std::end(kFilters) ? nullptr : it->fn;
}

}  // namespace rollcall::jinja
