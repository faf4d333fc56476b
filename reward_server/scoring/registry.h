// Every scorer that this server has, by the names of the catalogue.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "reward_server/scoring/scorer.h"
#include "services/base/status/status.h"
#include "services/common/rpc/options.h"
#include "services/common/scoring/scorer_catalog.h"

namespace rollcall {

// What scorers need from the process.
struct ScorerEnvironment {
  TlsOptions tls;
};

// kInvalidArgument: settings that the catalogue's checks cannot see to be wrong, e.g. an address
// that may not be dialled without TLS.
StatusOr<std::unique_ptr<const Scorer>> MakeScorer(const ScorerOptions& options,
                                                   const ScorerEnvironment& environment);

// Names that MakeScorer knows.
std::vector<std::string_view> RegisteredScorers();

}  // namespace rollcall
