// Weights of a model directory, for serving without a coordinator.
#pragma once

#include <memory>
#include <string>

#include "rollout_worker/engine_loop.h"
#include "rollout_worker/serving/served_model.h"
#include "services/base/status/status.h"

namespace rollcall {

struct StandaloneModel {
  UsableModel usable;  // to be given to the engine loop before the first request
  std::shared_ptr<const ServedModel> served;
};

// Reads everything in the directory; `name` may be empty: the last part of its path. Errors name
// file and tensor or key.
StatusOr<StandaloneModel> LoadStandaloneModel(const std::string& directory, std::string name,
                                              absl::Time now);

}  // namespace rollcall
