#include "services/base/net/address.h"

#include <netdb.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <system_error>

#include <arpa/inet.h>
#include <sys/socket.h>

namespace rollcall {
namespace {

constexpr int kMaxPort = 65535;

Status BadAddress(const std::string& address, const std::string& reason) {
  return InvalidArgument("'" + address + "' is not host:port (e.g. 127.0.0.1:7700): " + reason);
}

}  // namespace

StatusOr<HostPort> ParseHostPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return BadAddress(address, "the port is missing");
  HostPort result;
  result.host = address.substr(0, colon);
  if (result.host.empty()) return BadAddress(address, "the host is missing");
  if (result.host.front() == '[') {
    if (result.host.size() < 3 || result.host.back() != ']') {
      return BadAddress(address, "an IPv6 host is written in brackets");
    }
    result.host = result.host.substr(1, result.host.size() - 2);
    in6_addr ignored{};
    if (inet_pton(AF_INET6, result.host.c_str(), &ignored) != 1) {
      return BadAddress(address, "what is in the brackets is not an IPv6 address");
    }
  } else if (result.host.find_first_of(":/@[] \t\r\n") != std::string::npos) {
    return BadAddress(address, "the host has a character that no host has; IPv6 needs brackets");
  }
  const char* first = address.data() + colon + 1;
  const char* last = address.data() + address.size();
  const auto [end, error] = std::from_chars(first, last, result.port);
  if (error != std::errc() || end != last || result.port < 0 || result.port > kMaxPort) {
    return BadAddress(address, "the port is not a number from 0 to 65535");
  }
  return result;
}

std::string JoinHostPort(const HostPort& address) {
  const std::string port = std::to_string(address.port);
  if (address.host.find(':') != std::string::npos) return "[" + address.host + "]:" + port;
  return address.host + ":" + port;
}

bool IsLoopback(const std::string& host) {
  if (host == "localhost") return true;
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool IsWildcard(const std::string& host) {
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return v4.s_addr == htonl(INADDR_ANY);
  in6_addr v6{};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

std::string ExplainBindFailure(const HostPort& address) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int lookup =
      ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (lookup != 0) return std::string("cannot resolve the host: ") + ::gai_strerror(lookup);
  std::string reason = "the address cannot be bound";
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    const int fd = ::socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC, info->ai_protocol);
    if (fd < 0) continue;
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (::bind(fd, info->ai_addr, info->ai_addrlen) != 0) {
      reason = errno == EADDRINUSE
                   ? "address in use; stop the process that has it or choose another port (port 0 "
                     "picks a free one)"
                   : std::generic_category().message(errno);
    }
    ::close(fd);
  }
  ::freeaddrinfo(found);
  return reason;
}

}  // namespace rollcall
