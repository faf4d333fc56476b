// Unary calls over gRPC's callback API.
//
//   return RunUnary(context, executor, [=] { return DoIt(*request, response); });   // work on a
//   pool
//
//   auto* call = new PendingUnary();   // answered later, from any thread
//   core.WhenReady([call](Status s) { call->Finish(s); });
//   return call;
#pragma once

#include <atomic>
#include <functional>

#include <grpcpp/grpcpp.h>

#include "absl/time/time.h"
#include "services/base/runtime/executor.h"
#include "services/base/status/status.h"

namespace rollcall {

// Time until the caller's deadline, at most `cap`.
absl::Duration RemainingTime(const grpc::CallbackServerContext& context, absl::Duration cap);

// A unary call that is answered once by Finish(); deletes itself when gRPC is done with it.
class PendingUnary final : public grpc::ServerUnaryReactor {
 public:
  // `on_cancel` runs at most once, on a gRPC thread, when the caller gave up; Finish must still be
  // called by the owner (by on_cancel, if it likes). It may overlap a Finish of another thread, so
  // it owns what it touches.
  explicit PendingUnary(std::function<void()> on_cancel = nullptr);
  // The response object must be complete before. The owner calls it once and does not touch the
  // object, the context, the request or the response afterwards. A call that is never finished
  // keeps the server from shutting down.
  void Finish(const Status& status);

  void OnDone() override;
  void OnCancel() override;

 private:
  std::function<void()> on_cancel_;
  std::atomic<bool> finished_{false};
};

// Runs fn on the executor and answers with its status; a full executor answers
// RESOURCE_EXHAUSTED.
grpc::ServerUnaryReactor* RunUnary(grpc::CallbackServerContext* context, Executor& executor,
                                   std::function<Status()> fn);

}  // namespace rollcall
