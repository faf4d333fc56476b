// Beam search as a mode of a group.
//
//   prompt computed -> round: every live beam is computed and expanded -> the next live beams
//                        ^                                                |            '-> best
//                        '------- the first heir of a beam takes its sequence over, ---'
//                                 the others fork from it, beams without heirs give theirs up
//
// Beams are scheduled one by one, in the batches of everybody else: the batch, the KV memory and
// preemptions change no bit. A beam that is expanded before the others of its round rests; if its
// blocks are taken meanwhile, its heirs find what is left of them in the prefix cache and compute
// the rest again. A round never loses an expansion, so a search ends in any pool that holds one
// sequence of its length.
#include <algorithm>
#include <utility>

#include "rollout_worker/engine/group.h"

namespace rollcall {

void Engine::Expand(LiveSequence& sequence, std::span<const float> logits) {
  Group& group = *sequence.group;
  Beams& beams = *group.beams;
  group.forked = true;
  ++num_sampled_;
  if (std::find(expanded_.begin(), expanded_.end(), &group) == expanded_.end()) {
    expanded_.push_back(&group);
  }
  const Status expanded = beams.search.Expand(static_cast<size_t>(sequence.index), logits);
  if (!expanded.ok()) beams.status = expanded;
}

void Engine::GoOn(Group& group) {
  Beams& beams = *group.beams;
  if (!beams.status.ok()) return FailGroup(group, beams.status);
  if (beams.search.is_round_complete()) return AdvanceBeams(group);
  for (size_t i = 0; i < beams.live.size(); ++i) {
    const bool has_rested = scheduler_->is_resting(beams.live[i]);
    if (beams.search.is_expanded(i) && !has_rested) scheduler_->Rest(beams.live[i]);
  }
}

void Engine::AdvanceBeams(Group& group) {
  BeamSearch& search = group.beams->search;
  search.Advance();
  SequenceTimes& times = group.sequences.front().times;
  if (times.first_token == absl::InfinitePast()) times.first_token = sampled_at_;
  times.last_token = sampled_at_;
  if (search.is_done()) return CompleteBeams(group);

  const std::vector<LiveSequence*> parents = std::move(group.beams->live);
  const std::vector<BeamSearch::Beam>& next = search.live();
  // The first heir of each; null: there is none, and its blocks come in handy for the forks.
  std::vector<const BeamSearch::Beam*> heirs(parents.size());
  for (const BeamSearch::Beam& beam : next) {
    const auto parent = static_cast<size_t>(beam.parent);
    if (heirs[parent] == nullptr) heirs[parent] = &beam;
  }
  for (size_t p = 0; p < parents.size(); ++p) {
    parents[p]->num_forks = 0;
    if (heirs[p] != nullptr) continue;
    scheduler_->Remove(parents[p]);
    parents[p]->state = LiveSequence::State::kUnforked;
  }
  // Forks before the parents get tokens of their own.
  std::vector<LiveSequence*>& live = group.beams->live;
  live.clear();
  auto unused = group.sequences.begin();
  for (const BeamSearch::Beam& beam : next) {
    const auto parent = static_cast<size_t>(beam.parent);
    live.push_back(parents[parent]);
    if (heirs[parent] == &beam) continue;
    while (unused->state != LiveSequence::State::kUnforked) ++unused;
    live.back() = &*unused;
    unused->tokens = parents[parent]->tokens;
    unused->tokens.push_back(beam.tokens.back());
    ForkBeam(*parents[parent], &*unused);
  }
  for (size_t i = 0; i < live.size(); ++i) {
    const auto parent = static_cast<size_t>(next[i].parent);
    live[i]->index = static_cast<int32_t>(i);
    if (heirs[parent] != &next[i]) continue;
    live[i]->tokens.push_back(next[i].tokens.back());
    scheduler_->Wake(live[i]);
  }
}

void Engine::ForkBeam(LiveSequence& parent, LiveSequence* child) {
  if (parent.num_computed > 0) return Fork(parent, child);
  // The parent's blocks were taken while it rested.
  child->num_booked = parent.num_booked;
  child->state = LiveSequence::State::kScheduled;
  scheduler_->Add(child);
}

void Engine::CompleteBeams(Group& group) {
  std::vector<BeamSearch::Finished> best = group.beams->search.TakeBest();
  CloseBeams(group);
  const std::vector<int32_t>& stops = group.request.stop_token_ids;
  const size_t num_samples = group.request.stream_keys.size();
  ROLLCALL_CHECK(best.size() >= num_samples, "CheckGroup bounds the beams by the vocabulary");
  for (size_t i = 0; i < num_samples; ++i) {
    CompletedSample sample;
    sample.index = static_cast<int32_t>(i);
    sample.beam_score = best[i].score;
    const bool is_stop =
        std::find(stops.begin(), stops.end(), best[i].tokens.back()) != stops.end();
    sample.end = is_stop ? CompletionEnd::kStop : CompletionEnd::kLength;
    sample.policy_versions.assign(best[i].tokens.size(), group.policy_version);
    sample.token_ids = std::move(best[i].tokens);
    if (group.request.wants_model_logprobs) sample.model_logprobs = best[i].logprobs;
    sample.behavior_logprobs = std::move(best[i].logprobs);
    if (i == 0) sample.prompt = std::move(group.prompt);
    Report(group, group.sequences.front(), std::move(sample));
  }
}

void Engine::CloseBeams(Group& group) {
  for (LiveSequence& sequence : group.sequences) {
    if (sequence.state == LiveSequence::State::kScheduled) scheduler_->Remove(&sequence);
    sequence.state = LiveSequence::State::kClosed;
  }
}

}  // namespace rollcall
