// One step of the engine: plan, run, sample, emit.
#include <algorithm>
#include <utility>

#include "rollout_worker/engine/group.h"

namespace rollcall {

StepResult Engine::Step() {
  result_ = {};
  if (is_paused_) return std::move(result_);
  step_start_ = clock_.Now();
  num_sampled_ = 0;
  num_prefilled_ = 0;
  const StepPlan& plan = scheduler_->Plan();
  if (plan.num_prefix_hit_tokens > 0) metrics_.PrefixHit(plan.num_prefix_hit_tokens);
  if (plan.num_recomputed > 0) metrics_.Preempted(plan.num_recomputed);
  if (plan.num_swapped_out > 0) metrics_.SwappedOut(plan.num_swapped_out);
  if (swap_ != nullptr && plan.num_swapped_out + plan.num_swapped_in > 0) {
    metrics_.Swapped(swap_->stats(), last_swap_stats_);
    last_swap_stats_ = swap_->stats();
  }
  // One batch per version in use; usually that is one.
  std::vector<ModelId> in_use;
  for (const PlannedChunk& chunk : plan.chunks) {
    if (std::find(in_use.begin(), in_use.end(), chunk.sequence->model) == in_use.end()) {
      in_use.push_back(chunk.sequence->model);
    }
  }
  for (const ModelId model : in_use) RunBatch(model, plan);
  RemoveFinishedGroups();
  const double seconds = absl::ToDoubleSeconds(clock_.Now() - step_start_);
  MeasureCosts(seconds, plan);
  metrics_.StepDone(seconds, plan.num_tokens, num_prefilled_, num_sampled_);
  return std::move(result_);
}

void Engine::MeasureCosts(double seconds, const StepPlan& plan) {
  // A step of few tokens is bound by the weights and says little about a recomputation.
  constexpr int32_t kFewTokens = 64;
  if (plan.num_tokens < kFewTokens) return;
  const double per_token = seconds / plan.num_tokens;
  costs_.recompute_seconds_per_token += 0.1 * (per_token - costs_.recompute_seconds_per_token);
  scheduler_->SetCosts(costs_);
}

void Engine::AddToBatch(const PlannedChunk& chunk) {
  auto& sequence = static_cast<LiveSequence&>(*chunk.sequence);
  if (sequence.times.scheduled == absl::InfinitePast()) {
    sequence.times.scheduled = step_start_;
    sequence.num_cached = sequence.num_computed;
  }
  const int32_t begin = sequence.num_computed;
  batch_.token_ids.insert(batch_.token_ids.end(), sequence.tokens.begin() + begin,
                          sequence.tokens.begin() + begin + chunk.num_new);
  for (int32_t i = 0; i < chunk.num_new; ++i) batch_.positions.push_back(begin + i);
  if (sequence.kv_budget > 0 && begin == 0) BeginForgetting(&sequence);
  batch_.sequences.push_back(
      {sequence.blocks.blocks(), begin, chunk.num_new, sequence.heavy_hitters.get()});
  num_prefilled_ += chunk.num_new;
  if (chunk.wants_logits()) {
    batch_.logit_rows.push_back(static_cast<int64_t>(batch_.token_ids.size()) - 1);
    num_prefilled_ -= begin >= sequence.num_prompt ? 1 : 0;
  }
  WantPromptScores(&sequence, chunk);
  batch_chunks_.push_back(chunk);
}

void Engine::RunBatch(ModelId model, const StepPlan& plan) {
  batch_.Clear();
  batch_chunks_.clear();
  scored_.clear();
  expanded_.clear();
  for (const PlannedChunk& chunk : plan.chunks) {
    if (chunk.sequence->model == model) AddToBatch(chunk);
  }
  const auto logits = runner_->Run(*models_.at(model).model, batch_);
  if (!logits.ok()) {
    for (const PlannedChunk& chunk : batch_chunks_) FailChunk(chunk, logits.status());
    return;
  }
  sampled_at_ = clock_.Now();
  size_t row = 0;
  const auto vocab = static_cast<size_t>(config_.vocab_size);
  for (const PlannedChunk& chunk : batch_chunks_) {
    if (chunk.wants_logits()) {
      FinishChunk(chunk, logits->subspan(vocab * row++, vocab));
    } else {
      FinishChunk(chunk, {});
    }
  }
  // Beams are taken up and dropped when no chunk of the batch is left.
  for (Group* group : expanded_) GoOn(*group);
}

void Engine::FailChunk(const PlannedChunk& chunk, const Status& status) {
  auto& sequence = static_cast<LiveSequence&>(*chunk.sequence);
  if (sequence.state == LiveSequence::State::kClosed) return;  // with another beam
  if (sequence.group->forked && sequence.group->beams == nullptr) {
    Fail(sequence, status);
  } else {
    FailGroup(*sequence.group, status);
  }
}

void Engine::FinishChunk(const PlannedChunk& chunk, std::span<const float> logits) {
  auto& sequence = static_cast<LiveSequence&>(*chunk.sequence);
  Group& group = *sequence.group;
  scheduler_->Advance(chunk);
  if (sequence.index == 0 && !group.prompt_status.ok()) {
    return FailChunk(chunk, group.prompt_status);
  }
  const Status compacted = CompactPrompt(&sequence);
  if (!compacted.ok()) return FailChunk(chunk, compacted);
  if (logits.empty()) return;
  if (group.beams != nullptr) {
    Expand(sequence, logits);
  } else if (group.forked) {
    SampleNext(sequence, logits);
  } else {
    SampleFirst(group, logits);
  }
}

Status Engine::SetRow(const LiveSequence& sequence, std::span<const float> logits) {
  const GroupRequest& request = sequence.group->request;
  const std::span<const int32_t> tokens = sequence.tokens;
  const auto num_prompt = static_cast<size_t>(sequence.num_prompt);
  RowContext context{.tokens = {tokens.first(num_prompt), tokens.subspan(num_prompt)},
                     .stop_token_ids = request.stop_token_ids};
  if (sequence.grammar) {
    allowed_bits_.resize((static_cast<size_t>(config_.vocab_size) + 63) / 64);
    sequence.grammar->FillMask(allowed_bits_);
    context.allowed_bits = allowed_bits_;
  }
  return sampler_.SetRow(logits, request.law, context);
}

void Engine::BeginForgetting(LiveSequence* sequence) {
  sequence->heavy_hitters =
      std::make_unique<HeavyHitters>(sequence->group->request.heavy_hitters, config_.num_layers,
                                     config_.num_kv_heads, sequence->num_prompt);
  sequence->is_compact = sequence->heavy_hitters->is_compact();
}

Status Engine::CompactPrompt(LiveSequence* sequence) {
  if (sequence->heavy_hitters == nullptr ||
      !sequence->heavy_hitters->NeedsCompaction(sequence->num_computed)) {
    return OkStatus();
  }
  ROLLCALL_RETURN_IF_ERROR(
      runner_->CompactHeavyHitters(sequence->blocks.blocks(), sequence->heavy_hitters.get()));
  scheduler_->Compact(sequence);
  return OkStatus();
}

void Engine::Fork(LiveSequence& parent, LiveSequence* child) {
  child->times.scheduled = parent.times.scheduled;
  child->state = LiveSequence::State::kScheduled;
  if (parent.heavy_hitters != nullptr) {
    child->heavy_hitters = std::make_unique<HeavyHitters>(*parent.heavy_hitters);
    for (const BlockCopy& copy : scheduler_->ForkCopy(parent, child)) {
      runner_->CopyBlock(copy.from, copy.to);
    }
    return;
  }
  const auto copy = scheduler_->Fork(parent, parent.num_computed, child);
  if (copy) runner_->CopyBlock(copy->from, copy->to);
}

void Engine::SampleFirst(Group& group, std::span<const float> logits) {
  const Status prepared = SetRow(group.sequences.front(), logits);
  if (!prepared.ok()) {
    FailGroup(group, prepared);
    return;
  }
  group.forked = true;
  LiveSequence& leader = group.sequences.front();
  leader.num_forks = 0;
  for (size_t i = 1; i < group.sequences.size(); ++i) {
    LiveSequence& child = group.sequences[i];
    child.tokens.reserve(leader.tokens.size() + 64);
    child.tokens = group.request.prompt_token_ids;
    const SampledToken token = sampler_.Draw(child.random.UniformAt(0));
    if (Append(token, child)) continue;
    Fork(leader, &child);
  }
  Append(sampler_.Draw(leader.random.UniformAt(0)), leader);
}

void Engine::SampleNext(LiveSequence& sequence, std::span<const float> logits) {
  const Status prepared = SetRow(sequence, logits);
  if (!prepared.ok()) {
    Fail(sequence, prepared);
    return;
  }
  const auto number = static_cast<uint64_t>(sequence.num_known() - sequence.num_prompt);
  Append(sampler_.Draw(sequence.random.UniformAt(number)), sequence);
}

Status Engine::Record(const SampledToken& token, LiveSequence& sequence) {
  const GroupRequest& request = sequence.group->request;
  SampledTokens& sampled = sequence.sampled;
  sampled.token_ids.push_back(token.token);
  sampled.behavior_logprobs.push_back(token.logprob);
  sampled.policy_versions.push_back(sequence.group->policy_version);
  if (sampled.token_ids.size() == 1) sequence.times.first_token = sampled_at_;
  sequence.times.last_token = sampled_at_;
  if (request.wants_model_logprobs) {
    sampled.model_logprobs.push_back(sampler_.ModelLogprob(token.token));
  }
  if (request.num_top_logprobs > 0) {
    sampled.top_logprobs.push_back(sampler_.TopLogprobs(request.num_top_logprobs));
  }
  if (request.wants_kept_sets) {
    sampled.kept_masses.push_back(static_cast<float>(sampler_.KeptMass()));
    ROLLCALL_RETURN_IF_ERROR(
        sequence.kept_sets.Append(sampler_.kept(), config_.vocab_size, &sampled.kept_sets));
  }
  return sequence.grammar ? sequence.grammar->Advance(token.token) : OkStatus();
}

bool Engine::Append(const SampledToken& token, LiveSequence& sequence) {
  ++num_sampled_;
  sequence.tokens.push_back(token.token);
  const GroupRequest& request = sequence.group->request;
  const Status recorded = Record(token, sequence);
  if (!recorded.ok()) {
    Fail(sequence, recorded);
    return true;
  }
  if (request.is_streaming) Stream(sequence);
  const std::vector<int32_t>& stops = request.stop_token_ids;
  bool is_stop = std::find(stops.begin(), stops.end(), token.token) != stops.end();
  if (sequence.stop_watcher && sequence.stop_watcher->EndsWith(token.token)) is_stop = true;
  if (sequence.grammar && stops.empty() && sequence.grammar->MustEnd()) is_stop = true;
  if (is_stop) {
    Complete(sequence, CompletionEnd::kStop);
    return true;
  }
  if (sequence.num_known() >= sequence.group->max_tokens) {
    Complete(sequence, CompletionEnd::kLength);
    return true;
  }
  return false;
}

void Engine::Stream(LiveSequence& sequence) {
  const SampledTokens& sampled = sequence.sampled;
  const auto first = static_cast<size_t>(sequence.num_streamed);
  StreamedTokens streamed;
  streamed.group_id = sequence.group->request.group_id;
  streamed.index = sequence.index;
  streamed.first = sequence.num_streamed;
  const auto copy_rest = [first](const auto& from, auto* to) {
    if (from.size() > first) to->assign(from.begin() + static_cast<ptrdiff_t>(first), from.end());
  };
  copy_rest(sampled.token_ids, &streamed.token_ids);
  copy_rest(sampled.behavior_logprobs, &streamed.behavior_logprobs);
  copy_rest(sampled.model_logprobs, &streamed.model_logprobs);
  copy_rest(sampled.kept_masses, &streamed.kept_masses);
  copy_rest(sampled.policy_versions, &streamed.policy_versions);
  copy_rest(sampled.top_logprobs, &streamed.top_logprobs);
  sequence.num_streamed = static_cast<int32_t>(sampled.token_ids.size());
  result_.streamed.push_back(std::move(streamed));
}

void Engine::Complete(LiveSequence& sequence, CompletionEnd end) {
  CompletedSample sample;
  static_cast<SampledTokens&>(sample) = std::move(sequence.sampled);
  sample.end = end;
  if (sequence.index == 0) sample.prompt = std::move(sequence.group->prompt);
  Close(sequence, std::move(sample));
}

void Engine::Fail(LiveSequence& sequence, const Status& status) {
  CompletedSample sample;
  sample.status = status;
  Close(sequence, std::move(sample));
}

void Engine::FailGroup(Group& group, const Status& status) {
  if (group.beams != nullptr) {
    CloseBeams(group);
    for (size_t i = 0; i < group.request.stream_keys.size(); ++i) {
      CompletedSample sample;
      sample.status = status;
      sample.index = static_cast<int32_t>(i);
      Report(group, group.sequences.front(), std::move(sample));
    }
    return;
  }
  for (LiveSequence& sequence : group.sequences) {
    if (sequence.state != LiveSequence::State::kClosed) Fail(sequence, status);
  }
}

void Engine::Close(LiveSequence& sequence, CompletedSample sample) {
  if (sequence.state == LiveSequence::State::kScheduled) scheduler_->Remove(&sequence);
  sequence.state = LiveSequence::State::kClosed;
  sample.index = sequence.index;
  Report(*sequence.group, sequence, std::move(sample));
}

void Engine::Report(Group& group, const LiveSequence& first, CompletedSample sample) {
  sample.group_id = group.request.group_id;
  sample.policy_version =
      sample.policy_versions.empty() ? group.policy_version : sample.policy_versions.back();
  sample.times = first.times;
  sample.num_cached_prompt_tokens = std::min(first.num_cached, first.num_prompt);
  result_.completed.push_back(std::move(sample));
  // Groups go at the end of the step: its plan still points into them.
  if (--group.num_open == 0) finished_groups_.push_back(group.request.group_id);
}

void Engine::RemoveFinishedGroups() {
  for (const uint64_t group_id : finished_groups_) {
    const auto it = groups_.find(group_id);
    const ModelId model = it->second->request.model;
    groups_.erase(it);
    ReleaseModel(model);
  }
  finished_groups_.clear();
}

}  // namespace rollcall
