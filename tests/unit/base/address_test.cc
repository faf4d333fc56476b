#include "services/base/net/address.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace rollcall {
namespace {

TEST_CASE("ParseHostPort: names, IPv4 and bracketed IPv6 are read", "[unit][base]") {
  struct Case {
    std::string text;
    std::string host;
    int port;
  };
  const std::vector<Case> cases = {{"127.0.0.1:7700", "127.0.0.1", 7700},
                                   {"localhost:0", "localhost", 0},
                                   {"[::1]:65535", "::1", 65535},
                                   {"node-7.cluster:80", "node-7.cluster", 80}};
  for (const Case& c : cases) {
    INFO(c.text);
    REQUIRE_OK_AND_ASSIGN(const HostPort address, ParseHostPort(c.text));
    CHECK(address.host == c.host);
    CHECK(address.port == c.port);
    CHECK(JoinHostPort(address) == c.text);
  }
}

TEST_CASE("ParseHostPort: everything else is refused with the text in the message",
          "[unit][base]") {
  for (const std::string text : {"", "127.0.0.1", ":7700", "host:", "host:port", "host:65536",
                                 "host:-1", "host: 1", "::1:80", "[::1]", "[]:80", "[nonsense]:80",
                                 "http://host:80", "a b:80", "host:80\n", "host:1e3"}) {
    const StatusOr<HostPort> address = ParseHostPort(text);
    INFO(text);
    REQUIRE(address.status().code() == StatusCode::kInvalidArgument);
    CHECK(Message(address.status()).find("'" + text + "'") != std::string::npos);
  }
}

TEST_CASE("IsLoopback: only what this machine alone can reach", "[unit][base]") {
  for (const char* host : {"127.0.0.1", "127.255.0.9", "::1", "localhost"}) CHECK(IsLoopback(host));
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "127.0.0.1.example.com",
                           "localhost.example.com", "2001:db8::1", "127.1"}) {
    INFO(host);
    CHECK_FALSE(IsLoopback(host));
  }
}

TEST_CASE("IsWildcard: every interface", "[unit][base]") {
  CHECK(IsWildcard("0.0.0.0"));
  CHECK(IsWildcard("::"));
  CHECK_FALSE(IsWildcard("127.0.0.1"));
}

}  // namespace
}  // namespace rollcall
