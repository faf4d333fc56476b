// InferenceService: tokens in, tokens out, over the same generator as the HTTP API.
#pragma once

#include <memory>

#include "absl/base/thread_annotations.h"
#include "rollcall/v1/rollout.grpc.pb.h"
#include "rollout_worker/serving/generator.h"
#include "rollout_worker/serving/served_model.h"
#include "services/base/runtime/clock.h"
#include "services/base/runtime/random.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"

namespace rollcall {

struct GenerateServiceOptions {
  // Longest time for one call, whatever its deadline.
  absl::Duration call_timeout = absl::Minutes(10);
  // Of samples without a seed.
  uint64_t seed = 0;
};

// Thread-safe. What it borrows must outlive the server that has it.
class GenerateService final : public v1::InferenceService::CallbackService {
 public:
  GenerateService(const GenerateServiceOptions& options, ModelCatalog& catalog,
                  Generator& generator, const Clock& clock);

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override;
  grpc::ServerWriteReactor<v1::GeneratedTokens>* GenerateStream(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context,
                                    const v1::GetLoadRequest* request,
                                    v1::GetLoadResponse* response) override;

 private:
  enum class Delivery { kWhole, kStream };
  StatusOr<GenerationCall> MakeCall(const grpc::CallbackServerContext& context,
                                    const v1::GenerateRequest& request, Delivery delivery)
      ABSL_LOCKS_EXCLUDED(mu_);

  const GenerateServiceOptions options_;
  ModelCatalog& catalog_;
  Generator& generator_;
  const Clock& clock_;

  Mutex mu_;
  CounterRandom random_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rollcall
