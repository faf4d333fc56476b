// Moving sequences between engines; the protocol is in migration.h.
#include <algorithm>
#include <string>
#include <utility>

#include "rollout_worker/engine/group.h"

namespace rollcall {

StatusOr<Engine::LiveSequence*> Engine::FindSequence(uint64_t group_id, int32_t index) {
  const auto it = groups_.find(group_id);
  if (it == groups_.end()) return NotFound("the group ended");
  auto& sequences = it->second->sequences;
  const auto place = static_cast<size_t>(index);
  if (index < 0 || place >= sequences.size()) return NotFound("the group has no such sample");
  if (sequences[place].state == LiveSequence::State::kClosed) return NotFound("the sample ended");
  return &sequences[place];
}

StatusOr<Engine::LiveSequence*> Engine::FindMovable(uint64_t group_id, int32_t index) {
  ROLLCALL_ASSIGN_OR_RETURN(LiveSequence * sequence, FindSequence(group_id, index));
  // What waits, or has not got its prompt yet, has nothing to move but its request.
  const bool is_decoding = sequence->state == LiveSequence::State::kScheduled &&
                           sequence->group->forked && sequence->num_computed > 0 &&
                           sequence->transfer == nullptr;
  if (sequence->group->beams != nullptr) {
    return FailedPrecondition("the beams of a search stay where they are");
  }
  if (sequence->kv_budget > 0) {
    return FailedPrecondition("a sequence with a KV budget stays where it is");
  }
  if (!is_decoding) return FailedPrecondition("the sequence is not decoding");
  if (sequence->has_stale_blocks) {
    return FailedPrecondition("the sequence's keys and values are of several versions");
  }
  const GroupRequest& request = sequence->group->request;
  if (request.wants_prompt_logprobs && index == 0 && !sequence->group->is_prompt_scored()) {
    return FailedPrecondition("log-probabilities of the prompt are still computed here");
  }
  if (request.grammar != nullptr || request.wants_kept_sets || request.wants_model_logprobs ||
      request.law.edits_logits() || request.law.masks()) {
    return FailedPrecondition("the sequence's law and what it records do not travel");
  }
  return sequence;
}

std::vector<MovableSequence> Engine::ListMovable() {
  std::vector<MovableSequence> movable;
  for (Sequence* scheduled : scheduler_->running()) {
    auto& sequence = static_cast<LiveSequence&>(*scheduled);
    const uint64_t group_id = sequence.group->request.group_id;
    if (!FindMovable(group_id, sequence.index).ok()) continue;
    movable.push_back({.group_id = group_id,
                       .index = sequence.index,
                       .priority = sequence.priority,
                       .num_tokens = sequence.num_known(),
                       .num_blocks = sequence.blocks.size()});
  }
  return movable;
}

StatusOr<int64_t> Engine::VersionOf(uint64_t group_id, int32_t index) {
  ROLLCALL_ASSIGN_OR_RETURN(const LiveSequence* sequence, FindSequence(group_id, index));
  return sequence->group->policy_version;
}

StatusOr<SettledBlocks> Engine::Settled(uint64_t group_id, int32_t index) {
  ROLLCALL_ASSIGN_OR_RETURN(const LiveSequence* sequence, FindMovable(group_id, index));
  return SettledBlocks{sequence->num_computed / options_.block_size, sequence->epoch};
}

Status Engine::ReadBlocks(uint64_t group_id, int32_t index, int32_t first, int32_t count,
                          std::vector<std::byte>* out) {
  ROLLCALL_ASSIGN_OR_RETURN(const LiveSequence* sequence, FindMovable(group_id, index));
  const int32_t held = cache_.BlocksFor(sequence->num_computed);
  if (first < 0 || count < 0 || first > held - count) {
    return InvalidArgument("the sequence holds " + std::to_string(held) + " computed blocks");
  }
  const auto block_bytes = static_cast<size_t>(runner_->block_bytes());
  out->resize(static_cast<size_t>(count) * block_bytes);
  const BlockId* const blocks = sequence->blocks.blocks().data() + first;
  for (int32_t i = 0; i < count; ++i) {
    runner_->ReadBlocks(blocks[i], 1, out->data() + static_cast<size_t>(i) * block_bytes);
  }
  return OkStatus();
}

StatusOr<SequenceState> Engine::Detach(uint64_t group_id, int32_t index, uint64_t epoch) {
  ROLLCALL_ASSIGN_OR_RETURN(LiveSequence * sequence, FindMovable(group_id, index));
  if (sequence->epoch != epoch) return Aborted("the sequence gave its blocks up meanwhile");
  scheduler_->Detach(sequence);
  const Group& group = *sequence->group;
  SequenceState state;
  state.policy_version = group.policy_version;
  state.num_computed = sequence->num_computed;
  state.request = group.request;
  state.request.make_stop_watcher = nullptr;
  state.request.is_streaming = true;  // to here
  // The source has them already.
  state.request.wants_prompt_logprobs = false;
  state.request.num_prompt_top_logprobs = 0;
  state.request.stream_keys = {group.request.stream_keys[static_cast<size_t>(index)]};
  state.request.started = {{.token_ids = sequence->sampled.token_ids,
                            .behavior_logprobs = sequence->sampled.behavior_logprobs,
                            .model_logprobs = sequence->sampled.model_logprobs,
                            .policy_versions = sequence->sampled.policy_versions}};
  return state;
}

Status Engine::Attach(uint64_t group_id, int32_t index) {
  ROLLCALL_ASSIGN_OR_RETURN(LiveSequence * sequence, FindSequence(group_id, index));
  // A switch of weights started it anew meanwhile: it waits already.
  if (scheduler_->is_detached(sequence)) scheduler_->Attach(sequence);
  return OkStatus();
}

Status Engine::Release(uint64_t group_id, int32_t index) {
  ROLLCALL_ASSIGN_OR_RETURN(LiveSequence * sequence, FindSequence(group_id, index));
  if (!scheduler_->is_detached(sequence)) {
    return FailedPrecondition("the sequence runs here under other weights");
  }
  scheduler_->Remove(sequence);
  sequence->state = LiveSequence::State::kAway;
  return OkStatus();
}

Status Engine::Deliver(uint64_t group_id, int32_t index, const SampledTokens& tokens,
                       std::optional<CompletionEnd> end, StepResult* result) {
  ROLLCALL_ASSIGN_OR_RETURN(LiveSequence * sequence, FindSequence(group_id, index));
  if (sequence->state != LiveSequence::State::kAway) {
    return FailedPrecondition("the sequence is not away");
  }
  // The destination knows nothing of stop strings: what it sampled after one does not count.
  size_t count = tokens.token_ids.size();
  for (size_t i = 0; sequence->stop_watcher && i < count; ++i) {
    if (!sequence->stop_watcher->EndsWith(tokens.token_ids[i])) continue;
    count = i + 1;
    end = CompletionEnd::kStop;
  }
  SampledTokens& sampled = sequence->sampled;
  const auto add = [count](const auto& from, auto* to) {
    const auto last = static_cast<ptrdiff_t>(std::min(count, from.size()));
    to->insert(to->end(), from.begin(), from.begin() + last);
  };
  add(tokens.token_ids, &sequence->tokens);
  add(tokens.token_ids, &sampled.token_ids);
  add(tokens.behavior_logprobs, &sampled.behavior_logprobs);
  add(tokens.model_logprobs, &sampled.model_logprobs);
  add(tokens.policy_versions, &sampled.policy_versions);
  add(tokens.top_logprobs, &sampled.top_logprobs);
  sequence->times.last_token = clock_.Now();
  result_ = {};
  if (sequence->group->request.is_streaming && !tokens.token_ids.empty()) Stream(*sequence);
  if (end) Complete(*sequence, *end);
  RemoveFinishedGroups();
  *result = std::exchange(result_, {});
  return OkStatus();
}

Status Engine::Reclaim(uint64_t group_id, int32_t index) {
  ROLLCALL_ASSIGN_OR_RETURN(LiveSequence * sequence, FindSequence(group_id, index));
  if (sequence->state != LiveSequence::State::kAway) {
    return FailedPrecondition("the sequence is not away");
  }
  sequence->state = LiveSequence::State::kScheduled;
  scheduler_->Add(sequence);
  return OkStatus();
}

StatusOr<ReservationId> Engine::Reserve(int32_t num_tokens) {
  if (reservations_.size() >= kMaxReservations) {
    return ResourceExhausted("as many sequences as allowed are on their way already");
  }
  BlockTable blocks;
  if (!HasRoomFor(num_tokens, blocks) || !cache_.Grow(num_tokens, &blocks)) {
    return ResourceExhausted("there are no free blocks for " + std::to_string(num_tokens) +
                             " tokens");
  }
  reservations_.emplace(next_reservation_, std::move(blocks));
  return next_reservation_++;
}

bool Engine::HasRoomFor(int32_t num_tokens, const BlockTable& blocks) const {
  const auto watermark = static_cast<int32_t>(options_.scheduler.watermark * cache_.num_blocks());
  return cache_.NumMissing(num_tokens, blocks) + watermark <= cache_.num_free();
}

Status Engine::GrowReservation(ReservationId id, int32_t num_tokens) {
  const auto it = reservations_.find(id);
  if (it == reservations_.end()) return NotFound("the reservation was given up");
  if (!HasRoomFor(num_tokens, it->second) || !cache_.Grow(num_tokens, &it->second)) {
    return ResourceExhausted("there are no free blocks for " + std::to_string(num_tokens) +
                             " tokens");
  }
  return OkStatus();
}

Status Engine::WriteReserved(ReservationId id, int32_t first, std::span<const std::byte> bytes) {
  const auto it = reservations_.find(id);
  if (it == reservations_.end()) return NotFound("the reservation was given up");
  const auto block_bytes = static_cast<size_t>(runner_->block_bytes());
  const auto count = static_cast<int32_t>(bytes.size() / block_bytes);
  if (bytes.size() % block_bytes != 0 || first < 0 || first > it->second.size() - count) {
    return InvalidArgument(std::to_string(bytes.size()) + " bytes from block " +
                           std::to_string(first) + " on are not blocks of the reservation");
  }
  const BlockId* const blocks = it->second.blocks().data() + first;
  for (int32_t i = 0; i < count; ++i) {
    runner_->WriteBlocks(blocks[i], 1, bytes.data() + static_cast<size_t>(i) * block_bytes);
  }
  return OkStatus();
}

void Engine::DropReservation(ReservationId id) { reservations_.erase(id); }

Status Engine::Adopt(ReservationId id, SequenceState state) {
  const auto it = reservations_.find(id);
  if (it == reservations_.end()) return NotFound("the reservation was given up");
  BlockTable blocks = std::move(it->second);
  reservations_.erase(it);
  const auto model = models_.find(state.request.model);
  if (model == models_.end()) return NotFound("this version of the weights is not loaded");
  if (model->second.policy_version != state.policy_version) {
    return FailedPrecondition("the sequence belongs to policy version " +
                              std::to_string(state.policy_version));
  }
  ROLLCALL_RETURN_IF_ERROR(CheckGroup(state.request));
  if (state.request.started.size() != 1) {
    return InvalidArgument("one sample moves at a time");
  }
  const auto num_known = static_cast<int32_t>(state.request.prompt_token_ids.size() +
                                              state.request.started.front().token_ids.size());
  if (state.num_computed < 1 || state.num_computed >= num_known ||
      cache_.BlocksFor(state.num_computed) > blocks.size()) {
    return InvalidArgument(std::to_string(state.num_computed) + " computed tokens of " +
                           std::to_string(num_known) + " in " + std::to_string(blocks.size()) +
                           " blocks");
  }
  Group& group = InsertGroup(std::move(state.request), &model->second);
  LiveSequence& sequence = group.sequences.front();
  group.forked = true;
  Restore(&sequence);
  sequence.blocks = std::move(blocks);
  sequence.num_computed = state.num_computed;
  scheduler_->AddComputed(&sequence);
  return OkStatus();
}

}  // namespace rollcall
