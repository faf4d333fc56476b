// host:port addresses.
#pragma once

#include <string>

#include "services/base/status/status.h"

namespace rollcall {

struct HostPort {
  std::string host;  // without brackets
  int port = 0;
};

// "127.0.0.1:7700", "localhost:7700", "[::1]:7700", "node7.cluster:7700". kInvalidArgument with
// what would be right. No name is looked up.
StatusOr<HostPort> ParseHostPort(const std::string& address);

// The inverse; IPv6 hosts get brackets.
std::string JoinHostPort(const HostPort& address);

// 127.0.0.0/8, ::1 or localhost: reachable from this machine only.
bool IsLoopback(const std::string& host);

// 0.0.0.0 or ::, "every interface".
bool IsWildcard(const std::string& host);

// Why a TCP listener could not be bound there, for libraries that do not say: binds once by hand.
// One clause for the end of a message, e.g. "address in use; ...".
std::string ExplainBindFailure(const HostPort& address);

}  // namespace rollcall
