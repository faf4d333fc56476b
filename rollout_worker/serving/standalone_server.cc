#include "rollout_worker/serving/standalone_server.h"

#include <utility>
#include <vector>

#include "rollout_worker/serving/alias_registry.h"
#include "rollout_worker/serving/standalone_model.h"

namespace rollcall {
namespace {

class Server final : public StandaloneServer {
 public:
  Server(const StandaloneOptions& options, StandaloneModel model, const Parts& parts)
      : served_(std::move(model.served)),
        catalog_(MakeFixedCatalog({served_})),
        engine_registry_(options.exports_vllm_metrics
                             ? MakeAliasRegistry(parts.metrics, VllmAliases(served_->name))
                             : nullptr),
        metrics_(parts.metrics, options.exports_vllm_metrics
                                    ? std::make_unique<VllmMetrics>(parts.metrics, served_->name,
                                                                    served_->config.max_positions)
                                    : nullptr),
        rollout_metrics_(engine_registry_ ? *engine_registry_ : parts.metrics),
        generator_(options.generator, metrics_, parts.clock),
        // The model is never given back.
        loop_({.engine = options.engine, .idle_job_timeout = absl::InfiniteDuration()},
              generator_.events(), engine_registry_ ? *engine_registry_ : parts.metrics,
              rollout_metrics_, parts.logger, parts.clock) {
    loop_.AddModel(std::move(model.usable));
    generator_.SetLoop(&loop_);
  }

  ~Server() override { Shutdown(absl::ZeroDuration()); }

  Status Listen(HttpEndpointOptions options, const Parts& parts) {
    ROLLCALL_ASSIGN_OR_RETURN(endpoint_, HttpEndpoint::Start(std::move(options),
                                                             {.catalog = *catalog_,
                                                              .generator = generator_,
                                                              .metrics = metrics_,
                                                              .logger = parts.logger,
                                                              .clock = parts.clock,
                                                              .metrics_text = parts.metrics_text},
                                                             parts.metrics));
    return OkStatus();
  }

  const std::string& address() const override { return endpoint_->address(); }
  const std::string& model_name() const override { return served_->name; }
  bool has_chat() const override { return !served_->chat_templates.empty(); }
  ModelCatalog& catalog() override { return *catalog_; }
  Generator& generator() override { return generator_; }

  void Shutdown(absl::Duration patience) override {
    if (endpoint_) endpoint_->SetDraining();
    generator_.Drain(patience);
    if (endpoint_) endpoint_->Shutdown();
    loop_.Stop();
    generator_.Stop();
  }

 private:
  const std::shared_ptr<const ServedModel> served_;
  const std::unique_ptr<ModelCatalog> catalog_;
  const std::unique_ptr<MetricsRegistry> engine_registry_;
  ServingMetrics metrics_;
  RolloutMetrics rollout_metrics_;
  Generator generator_;
  EngineLoop loop_;
  std::unique_ptr<HttpEndpoint> endpoint_;
};

}  // namespace

StatusOr<std::unique_ptr<StandaloneServer>> StandaloneServer::Start(StandaloneOptions options,
                                                                    Parts parts) {
  ROLLCALL_ASSIGN_OR_RETURN(
      StandaloneModel model,
      LoadStandaloneModel(options.model_directory, options.served_model_name, parts.clock.Now()));
  // Else the first request would be told.
  ROLLCALL_RETURN_IF_ERROR(NumKvBlocks(options.engine, model.usable.config).status());
  auto server = std::make_unique<Server>(options, std::move(model), parts);
  ROLLCALL_RETURN_IF_ERROR(server->Listen(std::move(options.endpoint), parts));
  return std::unique_ptr<StandaloneServer>(std::move(server));
}

}  // namespace rollcall
