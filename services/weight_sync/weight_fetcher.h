// The worker's side: gets the bytes of a manifest over the first source that works and verifies
// them.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "services/base/status/status.h"
#include "services/common/rpc/options.h"
#include "services/weight_sync/manifest.h"

namespace rollcall {

struct FetchedWeights {
  std::vector<std::byte> snapshot;
  std::string transport;  // "shared_memory" or "grpc"
  double seconds = 0;
};

// kDataLoss: every source's bytes failed verification (the tensor is named); kUnavailable: no
// source could be reached before the time-out. A broken gRPC stream resumes where it stopped.
StatusOr<FetchedWeights> FetchWeights(const Manifest& manifest, const TlsOptions& tls,
                                      absl::Duration timeout);

}  // namespace rollcall
