// Arguments of a call bound to the parameters of what is called.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

class BoundArgs {
 public:
  BoundArgs(std::string_view callee, size_t count)
      : callee_(callee), values_(count), given_(count) {}

  bool Has(size_t i) const { return given_[i]; }
  // What was given, undefined where nothing was.
  const Value& operator[](size_t i) const { return values_[i]; }
  Value Or(size_t i, const Value& fallback) const { return given_[i] ? values_[i] : fallback; }
  bool IsTrue(size_t i) const;  // false when not given
  // kInvalidArgument when it is given and of another type.
  StatusOr<int64_t> Int(size_t i, int64_t fallback) const;
  StatusOr<std::string_view> Text(size_t i, std::string_view fallback) const;

  void Set(size_t i, Value value) {
    values_[i] = std::move(value);
    given_[i] = true;
  }
  std::string_view callee() const { return callee_; }

 private:
  std::string_view callee_;
  std::vector<Value> values_;
  std::vector<bool> given_;
};

// `parameters` in order; a name that is empty takes no keyword; the first `num_required` must be
// given. kInvalidArgument names the callee and the argument that does not fit.
StatusOr<BoundArgs> BindArgs(std::string_view callee, CallArgs args,
                             std::initializer_list<std::string_view> parameters,
                             size_t num_required = 0);

}  // namespace rollcall::jinja
