// A FleetService whose answers the test chooses; stands in for any unary service.
#pragma once

#include <functional>

#include "rollcall/v1/fleet.grpc.pb.h"

namespace rollcall::testing {

class ScriptedFleet final : public v1::FleetService::CallbackService {
 public:
  using Handler = std::function<grpc::ServerUnaryReactor*(
      grpc::CallbackServerContext*, const v1::RegisterRequest*, v1::RegisterResponse*)>;
  explicit ScriptedFleet(Handler on_register) : on_register_(std::move(on_register)) {}

  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext* context,
                                     const v1::RegisterRequest* request,
                                     v1::RegisterResponse* response) override {
    return on_register_(context, request, response);
  }

 private:
  const Handler on_register_;
};

}  // namespace rollcall::testing
