// Messages of migration.proto from and to the engine's types.
#pragma once

#include "absl/time/time.h"
#include "rollcall/v1/migration.pb.h"
#include "rollout_worker/engine/migration.h"
#include "rollout_worker/engine/types.h"
#include "services/base/status/status.h"

namespace rollcall {

// kUnimplemented: the law has a part that cannot travel.
Status CommitToProto(const SequenceState& state, absl::Duration time_limit,
                     v1::MigrationCommit* commit);
// group_id and model are the caller's to fill in. Values are checked by Engine::Adopt.
SequenceState CommitFromProto(const v1::MigrationCommit& commit, int64_t policy_version);

void TokensToProto(const SampledTokens& tokens, v1::MigratedTokens* message);
// kInvalidArgument: the lists are not parallel.
StatusOr<SampledTokens> TokensFromProto(const v1::MigratedTokens& message);

}  // namespace rollcall
