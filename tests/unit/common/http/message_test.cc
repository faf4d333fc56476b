#include "services/common/http/message.h"

#include <string>

#include "tests/support/catch.h"

namespace rollcall {
namespace {

TEST_CASE("HttpHead: writes the status line, the headers and how the body ends") {
  const HttpResponse response{.status = 404, .headers = {{"X-Request-Id", "a-1"}}};
  CHECK(HttpHead(response, "Content-Length: 3\r\n", "close") ==
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nX-Request-Id: a-1\r\n"
        "Content-Length: 3\r\nConnection: close\r\n\r\n");
}

TEST_CASE("HttpHead: a header that would break the response is left out") {
  const HttpResponse response{
      .headers = {
          {"X-A", "ok"}, {"X-B", "two\r\nSet-Cookie: stolen=1"}, {"X-C\r\nX-D", "x"}, {"", "x"}}};
  const std::string head = HttpHead(response, "", "close");
  CHECK(head.find("X-A: ok\r\n") != std::string::npos);
  CHECK(head.find("stolen") == std::string::npos);
  CHECK(head.find("X-D") == std::string::npos);
}

TEST_CASE("HttpChunk: the size in hexadecimal goes before the data") {
  CHECK(HttpChunk("hello world, 26 characters") == "1a\r\nhello world, 26 characters\r\n");
  CHECK(HttpChunk("").empty());
}

TEST_CASE("HttpRequest: the first header of a name counts") {
  const HttpRequest request{.headers = {{"a", "1"}, {"b", "2"}, {"a", "3"}}};
  CHECK(request.Header("a") == "1");
  CHECK(request.Header("c").empty());
}

}  // namespace
}  // namespace rollcall
