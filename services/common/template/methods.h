// Methods of Python's built-in types, as far as templates use them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "services/common/template/objects.h"
#include "services/common/template/unicode.h"
#include "services/common/template/value.h"

namespace rollcall::jinja {

// What a name means on a type of Python's.
struct Method {
  enum class Sort {
    kSupported,
    kUnsupported,  // Python has it, this does not
    kForbidden,    // it would change the value: undefined in the sandbox
  };
  std::string_view name;
  Sort sort = Sort::kSupported;
  MethodFn fn = nullptr;
};

std::span<const Method> StringMethods();
std::span<const Method> DictMethods();
std::span<const Method> ListMethods();
std::span<const Method> TupleMethods();  // also those of a range

// The method of that name for the type of the value, null when there is none.
const Method* FindMethod(const Value& value, std::string_view name);

// str.replace(); a negative count is no bound.
StatusOr<std::string> ReplaceText(Heap& heap, std::string_view text, std::string_view old_text,
                                  std::string_view new_text, int64_t max_count);
// str.isupper() or islower(): some character of that case, and none of another.
bool IsAllCase(std::string_view text, CharFlag wanted);

// str.format(): fields in braces with attributes, items, conversions and format specifications.
StatusOr<Value> StrFormat(Interpreter& interpreter, const Value& self, CallArgs args);

}  // namespace rollcall::jinja
