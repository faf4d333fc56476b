#include "rollout_worker/run_standalone.h"

#include <iostream>
#include <string>
#include <utility>

#include "rollout_worker/generate_service.h"
#include "rollout_worker/serving/standalone_server.h"
#include "services/base/runtime/clock.h"
#include "services/common/rpc/server.h"

namespace rollcall {
namespace {

// For who started it by hand.
void Announce(const StandaloneServer& server, const ServingFlags& flags, const TlsOptions& tls) {
  const std::string url = (tls.enabled() ? "https://" : "http://") + server.address() + "/v1";
  const std::string key = flags.api_key_file.empty() ? "" : " -H 'Authorization: Bearer KEY'";
  const std::string path = server.has_chat() ? "/chat/completions" : "/completions";
  const std::string prompt = server.has_chat()
                                 ? R"("messages": [{"role": "user", "content": "Hello!"}])"
                                 : R"("prompt": "Once upon a time")";
  std::cout << "serving " << server.model_name() << " at " << url << ", stop with Ctrl-C\n"
            << "  curl " << url << path << key << " -H 'Content-Type: application/json' -d '{"
            << prompt << R"(, "max_tokens": 32}')" << "\n"
            << std::flush;
}

}  // namespace

Status RunStandalone(const DaemonFlags& daemon_flags, const ServingFlags& flags,
                     const EngineOptions& engine, absl::Duration drain, Daemon& daemon) {
  const SystemClock clock;
  StandaloneOptions options{.model_directory = flags.model_directory,
                            .served_model_name = flags.served_model_name,
                            .engine = engine,
                            .generator = ToGeneratorOptions(flags),
                            .endpoint = ToEndpointOptions(flags, daemon_flags.tls),
                            .exports_vllm_metrics = flags.exports_vllm_metrics};
  ROLLCALL_ASSIGN_OR_RETURN(
      const auto server,
      StandaloneServer::Start(std::move(options),
                              {.metrics = daemon.metrics(),
                               .metrics_text = [&daemon] { return daemon.MetricsText(); },
                               .logger = daemon.logger(),
                               .clock = clock}));
  GenerateService service(
      {.call_timeout = absl::Seconds(flags.request_timeout_seconds), .seed = RandomSeed()},
      server->catalog(), server->generator(), clock);
  ROLLCALL_ASSIGN_OR_RETURN(
      const auto rpc_server,
      RpcServer::Start({.listen_address = daemon_flags.listen, .tls = daemon_flags.tls},
                       {&service}));
  daemon.SetHttpAddress(server->address());
  if (flags.announces) Announce(*server, flags, daemon_flags.tls);
  rpc_server->SetServing(true);
  Status ready = daemon.Ready(rpc_server->address());
  if (ready.ok()) daemon.WaitForStop();
  rpc_server->SetServing(false);
  server->Shutdown(drain);
  rpc_server->Shutdown(absl::Seconds(1));
  return ready;
}

}  // namespace rollcall
