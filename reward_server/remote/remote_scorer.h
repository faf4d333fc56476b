// A scorer that the user runs, called over rollcall.v1.ScorerService.
//
// INVALID_ARGUMENT, OUT_OF_RANGE and FAILED_PRECONDITION say that this input cannot be scored: data
// failures. Every other error is the infrastructure's. An answer without a result or with a value
// that is not finite is a data failure, and so is a failure without a kind. Reasons that the user's
// scorer gives go into the message; the reason of the failure is "remote_failure".
#pragma once

#include <memory>

#include "reward_server/scoring/scorer.h"
#include "services/base/status/status.h"
#include "services/common/rpc/options.h"
#include "services/common/scoring/scorer_catalog.h"

namespace rollcall {

// kInvalidArgument: the address may not be dialled in plain text, or the TLS files are unreadable.
StatusOr<std::unique_ptr<const Scorer>> MakeRemoteScorer(const ScorerOptions& options,
                                                         const TlsOptions& tls);

}  // namespace rollcall
