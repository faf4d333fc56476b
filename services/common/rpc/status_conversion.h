// rollcall::Status <-> grpc::Status: codes have the same numbers, messages are kept.
#pragma once

#include <grpcpp/support/status.h>

#include "services/base/status/status.h"

namespace rollcall {

grpc::Status ToGrpc(const Status& status);
Status FromGrpc(const grpc::Status& status);

}  // namespace rollcall
