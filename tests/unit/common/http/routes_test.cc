#include "services/common/http/routes.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace rollcall {
namespace {

HttpRoutes Routes() {
  HttpRoutes routes;
  for (const auto& [method, pattern] :
       std::vector<std::pair<std::string, std::string>>{{"GET", "/health"},
                                                        {"GET", "/v1/models"},
                                                        {"GET", "/v1/models/{id*}"},
                                                        {"GET", "/jobs/{job}/steps/{step}"},
                                                        {"POST", "/jobs/{job}/steps/{step}"}}) {
    routes.Add({.method = method, .pattern = pattern});
  }
  return routes;
}

TEST_CASE("HttpRoutes: finds by method and path, with what the braces stand for") {
  const HttpRoutes routes = Routes();
  CHECK(routes.Find("GET", "/health").route->pattern == "/health");
  CHECK(routes.Find("HEAD", "/health").route->pattern == "/health");
  const auto step = routes.Find("POST", "/jobs/a/steps/7");
  REQUIRE(step.route != nullptr);
  CHECK(step.route->method == "POST");
  CHECK(step.path_values == std::vector<std::string>{"a", "7"});
  CHECK(routes.Find("GET", "/v1/models/org/name").path_values ==
        std::vector<std::string>{"org/name"});
  CHECK(routes.Find("GET", "/v1/models/org%2Fna%6De%2%zz%").path_values ==
        std::vector<std::string>{"org/name%2%zz%"});
}

TEST_CASE("HttpRoutes: a path fits as a whole or not at all") {
  const HttpRoutes routes = Routes();
  for (const char* path : {"", "/", "health", "/health/", "/healthy", "/v1", "/v1/models/",
                           "/jobs//steps/7", "/jobs/a/steps", "/jobs/a/steps/7/8"}) {
    INFO(path);
    CHECK(routes.Find("GET", path).route == nullptr);
    CHECK(routes.Find("GET", path).allowed_methods.empty());
  }
}

TEST_CASE("HttpRoutes: a wrong method is told what would be right") {
  const HttpRoutes routes = Routes();
  const auto match = routes.Find("DELETE", "/jobs/a/steps/7");
  CHECK(match.route == nullptr);
  CHECK(match.allowed_methods == "GET, POST");
}

}  // namespace
}  // namespace rollcall
