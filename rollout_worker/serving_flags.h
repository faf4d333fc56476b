// Flags of serving, standalone and beside a coordinator's jobs.
#pragma once

#include <cstdint>
#include <string>

#include "rollout_worker/serving/generator.h"
#include "rollout_worker/serving/http_endpoint.h"
#include "services/common/rpc/options.h"

namespace CLI {
class App;
}

namespace rollcall {

struct ServingFlags {
  std::string model_directory;           // --model
  std::string served_model_name;         // --served-model-name
  std::string http_listen;               // --http
  std::string api_key_file;              // --api-key-file
  int max_open_samples = 1024;           // --max-open-samples
  int max_connections = 2048;            // --http-max-connections
  double request_timeout_seconds = 600;  // --request-timeout
  bool exports_vllm_metrics = false;     // --vllm-metrics
  bool announces = false;                // --announce
};

void AddServingFlags(CLI::App& app, ServingFlags* flags);

// A seed of the system's, so that requests without one differ from run to run.
uint64_t RandomSeed();

GeneratorOptions ToGeneratorOptions(const ServingFlags& flags);
HttpEndpointOptions ToEndpointOptions(const ServingFlags& flags, const TlsOptions& tls);

}  // namespace rollcall
