#include "rollout_worker/serving/job_serving.h"

#include <utility>

namespace rollcall {

JobServing::JobServing(const ServingFlags& flags, const TlsOptions& tls, Parts parts)
    : flags_(flags),
      tls_(tls),
      parts_(std::move(parts)),
      metrics_(parts_.metrics, nullptr),
      generator_(ToGeneratorOptions(flags), metrics_, parts_.clock),
      catalog_({.coordinator = parts_.coordinator,
                .tickets = tickets_,
                .logger = parts_.logger,
                .clock = parts_.clock}),
      grpc_service_(
          {.call_timeout = absl::Seconds(flags.request_timeout_seconds), .seed = RandomSeed()},
          catalog_, generator_, parts_.clock) {}

RolloutGuest JobServing::guest() {
  return {.first_id = kFirstGeneratorGroup,
          .events = generator_.events(),
          .on_usable = [this](uint64_t ticket, ModelId model) { tickets_.Usable(ticket, model); },
          .on_failed = [this](uint64_t ticket,
                              const WorkFailure& failure) { tickets_.Failed(ticket, failure); }};
}

Status JobServing::Start(RolloutService& rollouts) {
  generator_.SetLoop(&rollouts.engine_loop());
  catalog_.Start(rollouts);
  if (flags_.http_listen.empty()) return OkStatus();
  ROLLCALL_ASSIGN_OR_RETURN(endpoint_, HttpEndpoint::Start(ToEndpointOptions(flags_, tls_),
                                                           {.catalog = catalog_,
                                                            .generator = generator_,
                                                            .metrics = metrics_,
                                                            .logger = parts_.logger,
                                                            .clock = parts_.clock,
                                                            .metrics_text = parts_.metrics_text},
                                                           parts_.metrics));
  return OkStatus();
}

void JobServing::DropJobs(const std::vector<std::string>& job_ids) {
  for (const std::string& job_id : job_ids) generator_.DropJob(job_id);
}

void JobServing::Drain(absl::Duration patience) {
  if (endpoint_) endpoint_->SetDraining();
  generator_.Drain(patience);
  if (endpoint_) endpoint_->Shutdown();
}

void JobServing::Stop() {
  Drain(absl::ZeroDuration());
  catalog_.Stop();
  generator_.Stop();
}

}  // namespace rollcall
