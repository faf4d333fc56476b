#include "services/common/template/escape.h"

namespace rollcall::jinja {

std::string EscapeHtml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

StatusOr<std::string> EscapeHtml(const Heap& heap, const Value& value) {
  if (value.string().is_markup) return std::string(value.text());
  // At most five bytes for one.
  ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(value.text().size(), 5));
  return EscapeHtml(value.text());
}

}  // namespace rollcall::jinja
