#include "services/common/template/filters.h"

#include <algorithm>
#include <utility>

#include "services/common/template/text_search.h"

namespace rollcall::jinja {

FilterFn FindFilter(std::string_view name) {
  for (const auto find : {FindTextFilter, FindSequenceFilter, FindSelectFilter, FindNumberFilter}) {
    if (const FilterFn filter = find(name)) return filter;
  }
  return nullptr;
}

StatusOr<Value> AttributePath(Interpreter& interpreter, const Value& item, const Value& path,
                              const Value* fallback) {
  if (path.is_none()) return item;
  const auto step = [&](const Value& from, const Value& key) -> StatusOr<Value> {
    ROLLCALL_ASSIGN_OR_RETURN(Value value, interpreter.GetItem(from, key));
    if (fallback != nullptr && value.is_undefined()) return *fallback;
    return value;
  };
  if (!path.is_string()) return step(item, path);
  Value value = item;
  std::string_view rest = path.text();
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool is_index =
        !part.empty() && part.size() < 18 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    Value key;
    if (is_index) {
      key = Value::Int(std::stoll(std::string(part)));
    } else {
      ROLLCALL_ASSIGN_OR_RETURN(key, interpreter.heap().String(std::string(part)));
    }
    ROLLCALL_ASSIGN_OR_RETURN(value, step(value, key));
    if (dot == std::string_view::npos) return value;
    rest.remove_prefix(dot + 1);
  }
}

}  // namespace rollcall::jinja
