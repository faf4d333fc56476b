// Messages of migration.proto from and to the engine's types.
#pragma once

#include "rollcall/v1/migration.pb.h"
#include "rollout_worker/engine/migration.h"
#include "rollout_worker/engine/types.h"
#include "services/base/status/status.h"

namespace rollcall {

// Of a sequence that Engine::Detach gave: its law has no grammar, edits or masks.
void CommitToProto(const SequenceState& state, v1::MigrationCommit* commit);
// group_id and model are the caller's to fill in. Values are checked by Engine::Adopt.
SequenceState CommitFromProto(const v1::MigrationCommit& commit, int64_t policy_version);

void TokensToProto(const SampledTokens& tokens, v1::MigratedTokens* message);
// kInvalidArgument: the lists are not parallel.
StatusOr<SampledTokens> TokensFromProto(const v1::MigratedTokens& message);

}  // namespace rollcall
