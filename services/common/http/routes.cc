#include "services/common/http/routes.h"

#include <optional>
#include <utility>

namespace rollcall {
namespace {

// The text up to the next '/', which is taken off as well.
std::string_view TakeSegment(std::string_view* path) {
  const size_t end = path->find('/');
  const std::string_view segment = path->substr(0, end);
  *path = end == std::string_view::npos ? std::string_view() : path->substr(end + 1);
  return segment;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// "a%2Fb" is "a/b"; what is no escape stays.
std::string Unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool has_digits = text[i] == '%' && i + 2 < text.size() && HexDigit(text[i + 1]) >= 0 &&
                            HexDigit(text[i + 2]) >= 0;
    if (has_digits) {
      plain += static_cast<char>(HexDigit(text[i + 1]) * 16 + HexDigit(text[i + 2]));
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::optional<std::vector<std::string>> MatchPath(std::string_view pattern, std::string_view path) {
  std::vector<std::string> values;
  if (pattern.empty() || path.empty() || path[0] != '/') return std::nullopt;
  pattern.remove_prefix(1);
  path.remove_prefix(1);
  while (true) {
    const bool last_pattern = pattern.find('/') == std::string_view::npos;
    const bool last_path = path.find('/') == std::string_view::npos;
    if (last_pattern && pattern.size() > 3 && pattern.substr(pattern.size() - 2) == "*}") {
      if (path.empty()) return std::nullopt;
      values.push_back(Unescape(path));
      return values;
    }
    const std::string_view wanted = TakeSegment(&pattern);
    const std::string_view found = TakeSegment(&path);
    if (wanted.size() > 2 && wanted.front() == '{' && wanted.back() == '}') {
      if (found.empty()) return std::nullopt;
      values.push_back(Unescape(found));
    } else if (wanted != found) {
      return std::nullopt;
    }
    if (last_pattern != last_path) return std::nullopt;
    if (last_pattern) return values;
  }
}

}  // namespace

void HttpRoutes::Add(HttpRoute route) { routes_.push_back(std::move(route)); }

HttpRoutes::Match HttpRoutes::Find(std::string_view method, std::string_view path) const {
  if (method == "HEAD") method = "GET";
  Match match;
  for (const HttpRoute& route : routes_) {
    auto values = MatchPath(route.pattern, path);
    if (!values) continue;
    if (route.method == method) return {&route, *std::move(values), {}};
    if (!match.allowed_methods.empty()) match.allowed_methods += ", ";
    match.allowed_methods += route.method;
  }
  return match;
}

}  // namespace rollcall
