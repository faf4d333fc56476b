#include "services/common/template/arguments.h"

#include <algorithm>

#include "services/common/template/operators.h"

namespace rollcall::jinja {
namespace {

Status Refused(std::string_view callee, std::string_view what, std::string_view key) {
  return InvalidArgument(std::string(callee) + "() " + std::string(what) + " '" + std::string(key) +
                         "'");
}

}  // namespace

bool BoundArgs::IsTrue(size_t i) const { return given_[i] && jinja::IsTrue(values_[i]); }

StatusOr<int64_t> BoundArgs::Int(size_t i, int64_t fallback) const {
  if (!given_[i]) return fallback;
  if (!values_[i].is_integral()) {
    return InvalidArgument(std::string(callee_) + "(): argument " + std::to_string(i + 1) +
                           " must be an integer, not " + TypeName(values_[i]));
  }
  return values_[i].as_int();
}

StatusOr<std::string_view> BoundArgs::Text(size_t i, std::string_view fallback) const {
  if (!given_[i]) return fallback;
  if (!values_[i].is_string()) {
    return InvalidArgument(std::string(callee_) + "(): argument " + std::to_string(i + 1) +
                           " must be a text, not " + TypeName(values_[i]));
  }
  return values_[i].text();
}

StatusOr<BoundArgs> BindArgs(std::string_view callee, CallArgs args,
                             std::initializer_list<std::string_view> parameters,
                             size_t num_required) {
  BoundArgs bound(callee, parameters.size());
  const std::string name(callee);
  if (args.positional.size() > parameters.size()) {
    return InvalidArgument(name + "() takes at most " + std::to_string(parameters.size()) +
                           " arguments, " + std::to_string(args.positional.size()) + " were given");
  }
  for (size_t i = 0; i < args.positional.size(); ++i) bound.Set(i, std::move(args.positional[i]));
  for (auto& [key, value] : args.named) {
    const auto* it = std::find(parameters.begin(), parameters.end(), std::string_view(key));
    if (key.empty() || it == parameters.end()) {
      return Refused(callee, "takes no argument named", key);
    }
    const auto i = static_cast<size_t>(it - parameters.begin());
    if (bound.Has(i)) return Refused(callee, "got two values for", key);
    bound.Set(i, std::move(value));
  }
  for (size_t i = 0; i < num_required; ++i) {
    if (!bound.Has(i)) {
      return InvalidArgument(name + "() wants at least " + std::to_string(num_required) +
                             " arguments");
    }
  }
  return bound;
}

}  // namespace rollcall::jinja
