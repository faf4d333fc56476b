#include "services/common/rpc/unary.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "services/common/rpc/status_conversion.h"

namespace rollcall {

absl::Duration RemainingTime(const grpc::CallbackServerContext& context, absl::Duration cap) {
  const absl::Duration left = absl::FromChrono(context.deadline()) - absl::Now();
  return std::clamp(left, absl::ZeroDuration(), cap);
}

PendingUnary::PendingUnary(std::function<void()> on_cancel) : on_cancel_(std::move(on_cancel)) {}

void PendingUnary::Finish(const Status& status) {
  // After the call below `this` may be gone: gRPC runs OnDone on a thread of its own.
  if (!finished_.exchange(true)) grpc::ServerUnaryReactor::Finish(ToGrpc(status));
}

void PendingUnary::OnDone() { delete this; }

// gRPC runs OnDone only after OnCancel has returned, so `this` lives here whatever Finish does.
void PendingUnary::OnCancel() {
  if (on_cancel_ && !finished_.load()) on_cancel_();
}

grpc::ServerUnaryReactor* RunUnary(grpc::CallbackServerContext* context, Executor& executor,
                                   std::function<Status()> fn) {
  auto* call = new PendingUnary();
  const Status scheduled = executor.Schedule([context, call, fn = std::move(fn)] {
    // The context lives until OnDone, which only Finish leads to.
    if (context->IsCancelled()) {
      call->Finish(Cancelled("the caller gave up before the call began"));
      return;
    }
    call->Finish(GuardExceptions("handler", fn));
  });
  if (scheduled.code() == StatusCode::kCancelled) {
    call->Finish(Unavailable("the server is shutting down"));
  } else if (!scheduled.ok()) {
    call->Finish(Annotate(scheduled, "the server is busy, try again later"));
  }
  return call;
}

}  // namespace rollcall
