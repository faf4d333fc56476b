// Search in text whose cost is bounded whatever the texts are.
#pragma once

#include <cstddef>
#include <string_view>

#include "services/base/status/status.h"
#include "services/common/template/heap.h"

namespace rollcall::jinja {

// Offset of the first occurrence at or after `from`, npos when there is none; linear in the text.
size_t FindText(std::string_view text, std::string_view wanted, size_t from = 0);
// Offset of the last occurrence. Its worst case is the product of the sizes, which is charged.
StatusOr<size_t> FindLastText(Heap& heap, std::string_view text, std::string_view wanted);

}  // namespace rollcall::jinja
