// Which handler answers which request.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "services/common/http/exchange.h"

namespace rollcall {

// Who may use a route of a server that has keys.
enum class HttpAccess { kKey, kOpen };

struct HttpRoute {
  std::string method;
  // "/v1/models/{id}": a segment in braces stands for one segment of any text, a last segment
  // "{id*}" for one or more.
  std::string pattern;
  HttpHandler handler;
  HttpAccess access = HttpAccess::kKey;
};

// Immutable while a server uses it.
class HttpRoutes {
 public:
  void Add(HttpRoute route);

  struct Match {
    const HttpRoute* route = nullptr;      // null: no route, or none with this method
    std::vector<std::string> path_values;  // of the segments in braces, unescaped
    std::string allowed_methods;           // "GET, POST" when only the method does not fit
  };
  // HEAD takes GET's route. O(number of routes).
  Match Find(std::string_view method, std::string_view path) const;

 private:
  std::vector<HttpRoute> routes_;
};

}  // namespace rollcall
