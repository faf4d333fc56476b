#include "services/common/template/text_search.h"

#include <algorithm>
#include <cstring>

namespace rollcall::jinja {

size_t FindText(std::string_view text, std::string_view wanted, size_t from) {
  if (from > text.size() || wanted.size() > text.size() - from) return std::string_view::npos;
  if (wanted.empty()) return from;
  // glibc's memmem is linear, which string_view::find is not.
  const void* found = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

StatusOr<size_t> FindLastText(Heap& heap, std::string_view text, std::string_view wanted) {
  const size_t product = (text.size() / 64 + 1) * (wanted.size() / 8 + 1);
  ROLLCALL_RETURN_IF_ERROR(
      heap.Step(static_cast<int64_t>(std::min<size_t>(product, size_t{1} << 60))));
  return text.rfind(wanted);
}

}  // namespace rollcall::jinja
