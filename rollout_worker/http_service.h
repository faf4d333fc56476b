// The OpenAI-compatible HTTP API of a rollout worker. docs/serving.md lists routes and fields.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "rollout_worker/serving/api/api_error.h"
#include "rollout_worker/serving/api/sampling_fields.h"
#include "rollout_worker/serving/generator.h"
#include "rollout_worker/serving/metrics.h"
#include "rollout_worker/serving/reply_format.h"
#include "rollout_worker/serving/served_model.h"
#include "services/base/log/log.h"
#include "services/base/runtime/clock.h"
#include "services/base/runtime/random.h"
#include "services/base/sync/mutex.h"
#include "services/common/http/routes.h"

namespace rollcall {

struct HttpServiceOptions {
  // Longest time for one request; a client may ask for less with the header X-Request-Timeout.
  absl::Duration request_timeout = absl::Minutes(10);
  // Of ids, and of samples without a seed.
  uint64_t seed = 0;
};

// Thread-safe.
class HttpService {
 public:
  // What it borrows must outlive it, and it the server that has its routes.
  struct Parts {
    ModelCatalog& catalog;
    Generator& generator;
    ServingMetrics& metrics;
    Logger& logger;
    const Clock& clock;
    // The page of /metrics.
    std::function<std::string()> metrics_text;
  };
  HttpService(const HttpServiceOptions& options, Parts parts);

  HttpRoutes Routes();
  // From here on /health says 503, so that nothing new is sent here.
  void SetDraining() { is_draining_.store(true); }

 private:
  using Exchange = std::shared_ptr<HttpExchange>;

  void Health(const Exchange& exchange) const;
  void ListModels(const Exchange& exchange) const;
  void GetModel(const Exchange& exchange) const;
  void Complete(const Exchange& exchange) ABSL_LOCKS_EXCLUDED(mu_);
  void Chat(const Exchange& exchange) ABSL_LOCKS_EXCLUDED(mu_);
  void Tokenize(const Exchange& exchange) const;
  void Detokenize(const Exchange& exchange) const;

  // What every call for completions has; nothing when it was answered with an error already.
  struct Prepared {
    std::shared_ptr<const ServedModel> model;
    ReplyOptions reply;
    std::vector<std::pair<std::string, std::string>> headers;
    absl::Time arrival;
    absl::Time deadline;
    uint64_t fallback_seed = 0;
  };
  ApiResult<Prepared> Prepare(const HttpRequest& request, const std::string& model,
                              const char* id_prefix, const SamplingFields& sampling,
                              const std::vector<std::string>& unknown_fields)
      ABSL_LOCKS_EXCLUDED(mu_);
  void NoteUnknownFields(const std::vector<std::string>& fields) ABSL_LOCKS_EXCLUDED(mu_);

  const HttpServiceOptions options_;
  ModelCatalog& catalog_;
  Generator& generator_;
  ServingMetrics& metrics_;
  Logger& logger_;
  const Clock& clock_;
  const std::function<std::string()> metrics_text_;
  std::atomic<bool> is_draining_{false};

  Mutex mu_;
  CounterRandom random_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> noted_fields_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rollcall
