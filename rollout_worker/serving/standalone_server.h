// One model directory behind the HTTP API, without a coordinator.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "rollout_worker/engine_loop.h"
#include "rollout_worker/serving/generator.h"
#include "rollout_worker/serving/http_endpoint.h"
#include "services/base/log/log.h"
#include "services/base/metrics/metrics.h"
#include "services/base/runtime/clock.h"
#include "services/base/status/status.h"

namespace rollcall {

struct StandaloneOptions {
  std::string model_directory;
  std::string served_model_name;  // empty: the last part of the directory
  EngineOptions engine;
  GeneratorOptions generator;
  HttpEndpointOptions endpoint;
  bool exports_vllm_metrics = false;
};

class StandaloneServer {
 public:
  // What it borrows must outlive it.
  struct Parts {
    MetricsRegistry& metrics;
    std::function<std::string()> metrics_text;
    Logger& logger;
    const Clock& clock;
  };
  // Serves when it returns. Errors of the model directory name file and tensor or key.
  static StatusOr<std::unique_ptr<StandaloneServer>> Start(StandaloneOptions options, Parts parts);
  virtual ~StandaloneServer() = default;
  virtual const std::string& address() const = 0;
  virtual const std::string& model_name() const = 0;
  virtual bool has_chat() const = 0;
  // For further front ends. Shutdown fails their calls; it does not wait for them.
  virtual ModelCatalog& catalog() = 0;
  virtual Generator& generator() = 0;
  // Refuses new requests, lets running ones end for `patience`, then ends everything. Idempotent.
  virtual void Shutdown(absl::Duration patience) = 0;
};

}  // namespace rollcall
