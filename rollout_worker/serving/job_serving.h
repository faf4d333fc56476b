// Serving beside a coordinator's jobs: the gRPC service always, HTTP where it is asked for.
//
//   JobServing -> RpcServer(grpc_service) -> RolloutService(guest) -> Start -> Drain -> Stop
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rollout_worker/generate_service.h"
#include "rollout_worker/rollout_service.h"
#include "rollout_worker/serving/generator.h"
#include "rollout_worker/serving/http_endpoint.h"
#include "rollout_worker/serving/job_catalog.h"
#include "rollout_worker/serving_flags.h"
#include "services/base/status/status.h"
#include "services/common/rpc/options.h"

namespace rollcall {

// Thread-safe where its parts are; Start, Drain and Stop come from one thread.
class JobServing {
 public:
  // What it borrows must outlive it.
  struct Parts {
    std::shared_ptr<grpc::Channel> coordinator;
    MetricsRegistry& metrics;
    std::function<std::string()> metrics_text;
    Logger& logger;
    const Clock& clock;
  };
  JobServing(const ServingFlags& flags, const TlsOptions& tls, Parts parts);

  grpc::Service* grpc_service() { return &grpc_service_; }
  RolloutGuest guest();
  // `rollouts` has this guest and is borrowed until Stop. Errors as of HttpServer::Start.
  Status Start(RolloutService& rollouts);
  // Empty without HTTP.
  std::string http_address() const { return endpoint_ ? endpoint_->address() : ""; }
  void DropJobs(const std::vector<std::string>& job_ids);
  // Refuses new requests, lets running ones end for `patience`, then fails them.
  void Drain(absl::Duration patience);
  // Before the rollout service and its engine loop go. Idempotent.
  void Stop();

 private:
  const ServingFlags flags_;
  const TlsOptions tls_;
  const Parts parts_;
  ServingMetrics metrics_;
  Generator generator_;
  PolicyTickets tickets_;
  JobCatalog catalog_;
  GenerateService grpc_service_;
  std::unique_ptr<HttpEndpoint> endpoint_;
};

}  // namespace rollcall
