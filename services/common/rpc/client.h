// Client side: channels, and unary calls with a deadline and bounded retries.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "services/base/status/status.h"
#include "services/common/rpc/options.h"
#include "services/common/rpc/status_conversion.h"

namespace rollcall {

// A channel to host:port. Reconnects by itself with a backoff of at most one second.
// kInvalidArgument: not host:port, TLS files unreadable, or plain text to a host that is not
// loopback.
StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                     const TlsOptions& tls = {});

struct CallOptions {
  // Of one attempt.
  absl::Duration timeout = absl::Seconds(10);
  // Attempts of an idempotent call that ends in UNAVAILABLE; 1 never retries. Waits 50 ms, 100 ms,
  // ... up to 1 s with jitter between attempts.
  int max_attempts = 1;
};

namespace internal {
// Sleeps before attempt number `attempt` (from 1).
void BackOff(int attempt);
}  // namespace internal

// Calls stub.*method(request) and fills *response.
template <typename Stub, typename Request, typename Response>
Status Call(Stub& stub,
            grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
            const Request& request, Response* response, const CallOptions& options = {}) {
  Status status;
  for (int attempt = 0; attempt < options.max_attempts; ++attempt) {
    if (attempt > 0) internal::BackOff(attempt);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + options.timeout));
    status = FromGrpc((stub.*method)(&context, request, response));
    if (status.code() != StatusCode::kUnavailable) return status;
  }
  return status;
}

}  // namespace rollcall
