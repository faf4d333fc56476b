#include "services/common/rpc/status_conversion.h"

namespace rollcall {

grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), Message(status));
}

Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return OkStatus();
  const int code = status.error_code();
  // The peer may run another version and send a number that nobody here knows.
  if (code < 0 || code > static_cast<int>(StatusCode::kUnauthenticated)) {
    return MakeStatus(StatusCode::kUnknown,
                      "status code " + std::to_string(code) + ": " + status.error_message());
  }
  return MakeStatus(static_cast<StatusCode>(code), status.error_message());
}

}  // namespace rollcall
