#include "rollout_worker/engine/engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "rollout_worker/runner/decoder_runner.h"
#include "services/base/runtime/random.h"

namespace rollcall {

struct Engine::LiveSequence : Sequence {
  enum class State { kUnforked, kScheduled, kClosed };
  State state = State::kUnforked;
  Group* group = nullptr;
  int32_t index = 0;
  CounterRandom random{0};
  SampledTokens sampled;
  int32_t num_streamed = 0;  // of the sampled tokens
  std::unique_ptr<StopWatcher> stop_watcher;
};

struct Engine::Group {
  GroupRequest request;
  int64_t policy_version = 0;
  int32_t max_tokens = 0;  // prompt and completion
  // The first one is the leader: it computes the prompt for all.
  std::vector<LiveSequence> sequences;
  bool forked = false;
  size_t num_open = 0;
};

StatusOr<int32_t> NumKvBlocks(const EngineOptions& options, const ModelConfig& config) {
  const int64_t block_bytes = KvBlockBytes(config, options.block_size);
  const int64_t affordable = options.kv_cache_bytes / block_bytes;
  if (affordable < 1) {
    return InvalidArgument("one KV block of this model takes " + std::to_string(block_bytes) +
                           " bytes, the KV cache has " + std::to_string(options.kv_cache_bytes) +
                           "; raise --kv-cache-mib");
  }
  // Twice what all sequences at full length can hold: the rest could only be stale cache.
  const int64_t per_sequence = (config.max_positions + options.block_size - 1) / options.block_size;
  const int64_t useful = 2 * per_sequence * options.scheduler.max_sequences;
  return static_cast<int32_t>(std::min({affordable, useful, int64_t{1} << 30}));
}

Engine::Engine(const EngineOptions& options, const ModelConfig& config, int32_t num_blocks,
               std::unique_ptr<ModelRunner> runner, EngineMetrics metrics, const Clock& clock)
    : options_(options),
      config_(config),
      clock_(clock),
      metrics_(metrics),
      cache_(num_blocks, options.block_size),
      scheduler_(options.scheduler, cache_),
      runner_(std::move(runner)),
      sampler_(config.vocab_size) {}

Engine::~Engine() = default;

StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                 const ModelConfig& config, EngineMetrics metrics,
                                                 const Clock& clock) {
  ROLLCALL_ASSIGN_OR_RETURN(const int32_t num_blocks, NumKvBlocks(options, config));
  ROLLCALL_ASSIGN_OR_RETURN(auto runner, MakeDecoderRunner(config, num_blocks, options.block_size));
  return std::make_unique<Engine>(options, config, num_blocks, std::move(runner), metrics, clock);
}

void Engine::AddModel(ModelId id, int64_t policy_version,
                      std::shared_ptr<const RunnableModel> model) {
  ROLLCALL_CHECK(models_.empty() || models_.rbegin()->first < id, "model ids grow");
  models_.emplace(id, LoadedModel{policy_version, std::move(model), 0});
  DropIdleModels();
}

void Engine::DropIdleModels() {
  auto num_older = static_cast<int64_t>(models_.size()) - options_.num_kept_models;
  for (auto it = models_.begin(); it != models_.end() && num_older > 0; --num_older) {
    if (it->second.num_groups > 0) {
      ++it;
      continue;
    }
    cache_.DropModel(it->first);
    it = models_.erase(it);
  }
}

void Engine::ReleaseModel(ModelId id) {
  LoadedModel& model = models_.at(id);
  if (--model.num_groups == 0) DropIdleModels();
}

Status Engine::AddGroup(GroupRequest request) {
  const auto model = models_.find(request.model);
  if (model == models_.end()) return NotFound("this version of the weights is not loaded");
  ROLLCALL_RETURN_IF_ERROR(CheckSamplingLaw(request.law));
  const auto num_prompt = static_cast<int64_t>(request.prompt_token_ids.size());
  if (num_prompt == 0) return InvalidArgument("the prompt is empty");
  if (request.stream_keys.empty()) return InvalidArgument("the group has no samples");
  if (request.max_new_tokens < 1) {
    return InvalidArgument("max_new_tokens is " + std::to_string(request.max_new_tokens) +
                           ", it must be at least 1");
  }
  if (num_prompt >= config_.max_positions) {
    return MakeStatus(StatusCode::kOutOfRange,
                      "the prompt has " + std::to_string(num_prompt) + " tokens, the model has " +
                          std::to_string(config_.max_positions) +
                          " positions and one of them must be left to sample");
  }
  for (const int32_t token : request.prompt_token_ids) {
    if (token < 0 || token >= config_.vocab_size) {
      return InvalidArgument("prompt token " + std::to_string(token) +
                             " is outside the vocabulary of " + std::to_string(config_.vocab_size));
    }
  }
  const auto max_tokens = static_cast<int32_t>(
      std::min<int64_t>(num_prompt + request.max_new_tokens, config_.max_positions));
  if (cache_.BlocksFor(max_tokens) > cache_.num_blocks()) {
    return ResourceExhausted("a sequence of " + std::to_string(max_tokens) + " tokens needs " +
                             std::to_string(cache_.BlocksFor(max_tokens)) +
                             " KV blocks, the cache has " + std::to_string(cache_.num_blocks()) +
                             "; raise --kv-cache-mib or lower max_new_tokens");
  }
  auto group = std::make_unique<Group>();
  group->policy_version = model->second.policy_version;
  group->max_tokens = max_tokens;
  group->num_open = request.stream_keys.size();
  group->sequences = std::vector<LiveSequence>(group->num_open);
  for (size_t i = 0; i < group->num_open; ++i) {
    LiveSequence& sequence = group->sequences[i];
    sequence.arrival = next_arrival_++;
    sequence.model = request.model;
    sequence.num_prompt = static_cast<int32_t>(num_prompt);
    sequence.group = group.get();
    sequence.index = static_cast<int32_t>(i);
    sequence.random = CounterRandom(request.stream_keys[i]);
    if (request.make_stop_watcher) sequence.stop_watcher = request.make_stop_watcher();
  }
  LiveSequence& leader = group->sequences.front();
  leader.tokens = request.prompt_token_ids;
  leader.num_forks = static_cast<int32_t>(group->num_open) - 1;
  leader.state = LiveSequence::State::kScheduled;
  const uint64_t group_id = request.group_id;
  group->request = std::move(request);
  Group* borrowed = group.get();
  const bool inserted = groups_.emplace(group_id, std::move(group)).second;
  ROLLCALL_CHECK(inserted, "two live groups have the same id");
  scheduler_.Add(&borrowed->sequences.front());
  ++model->second.num_groups;
  return OkStatus();
}

bool Engine::Abort(uint64_t group_id) {
  const auto it = groups_.find(group_id);
  if (it == groups_.end()) return false;
  for (LiveSequence& sequence : it->second->sequences) {
    if (sequence.state == LiveSequence::State::kScheduled) scheduler_.Remove(&sequence);
  }
  const ModelId model = it->second->request.model;
  groups_.erase(it);
  ReleaseModel(model);
  return true;
}

StepResult Engine::Step() {
  const absl::Time start = clock_.Now();
  result_ = {};
  num_sampled_ = 0;
  num_prefilled_ = 0;
  const StepPlan& plan = scheduler_.Plan();
  if (plan.num_prefix_hit_tokens > 0) metrics_.PrefixHit(plan.num_prefix_hit_tokens);
  if (plan.num_preempted > 0) metrics_.Preempted(plan.num_preempted);
  // One batch per version in use; usually that is one.
  std::vector<ModelId> in_use;
  for (const PlannedChunk& chunk : plan.chunks) {
    if (std::find(in_use.begin(), in_use.end(), chunk.sequence->model) == in_use.end()) {
      in_use.push_back(chunk.sequence->model);
    }
  }
  for (const ModelId model : in_use) RunBatch(model, plan);
  RemoveFinishedGroups();
  metrics_.StepDone(absl::ToDoubleSeconds(clock_.Now() - start), plan.num_tokens, num_prefilled_,
                    num_sampled_);
  return std::move(result_);
}

void Engine::RunBatch(ModelId model, const StepPlan& plan) {
  batch_.Clear();
  batch_chunks_.clear();
  for (const PlannedChunk& chunk : plan.chunks) {
    const Sequence& sequence = *chunk.sequence;
    if (sequence.model != model) continue;
    const int32_t begin = sequence.num_computed;
    batch_.token_ids.insert(batch_.token_ids.end(), sequence.tokens.begin() + begin,
                            sequence.tokens.begin() + begin + chunk.num_new);
    for (int32_t i = 0; i < chunk.num_new; ++i) batch_.positions.push_back(begin + i);
    batch_.sequences.push_back({sequence.blocks.blocks(), begin, chunk.num_new});
    if (chunk.wants_logits()) {
      batch_.logit_rows.push_back(static_cast<int64_t>(batch_.token_ids.size()) - 1);
      num_prefilled_ += chunk.num_new - (begin >= sequence.num_prompt ? 1 : 0);
    } else {
      num_prefilled_ += chunk.num_new;
    }
    batch_chunks_.push_back(chunk);
  }
  const auto logits = runner_->Run(*models_.at(model).model, batch_);
  if (!logits.ok()) {
    for (const PlannedChunk& chunk : batch_chunks_) {
      auto& sequence = static_cast<LiveSequence&>(*chunk.sequence);
      if (sequence.group->forked) {
        Fail(sequence, logits.status());
      } else {
        FailGroup(*sequence.group, logits.status());
      }
    }
    return;
  }
  size_t row = 0;
  const auto vocab = static_cast<size_t>(config_.vocab_size);
  for (const PlannedChunk& chunk : batch_chunks_) {
    const bool wants_logits = chunk.wants_logits();
    scheduler_.Advance(chunk);
    if (!wants_logits) continue;
    const std::span<const float> row_logits = logits->subspan(vocab * row++, vocab);
    auto& sequence = static_cast<LiveSequence&>(*chunk.sequence);
    if (sequence.group->forked) {
      SampleNext(sequence, row_logits);
    } else {
      SampleFirst(*sequence.group, row_logits);
    }
  }
}

void Engine::SampleFirst(Group& group, std::span<const float> logits) {
  const Status prepared = sampler_.SetRow(logits, group.request.law);
  if (!prepared.ok()) {
    FailGroup(group, prepared);
    return;
  }
  group.forked = true;
  LiveSequence& leader = group.sequences.front();
  leader.num_forks = 0;
  const int32_t num_prompt = leader.num_prompt;
  for (size_t i = 1; i < group.sequences.size(); ++i) {
    LiveSequence& child = group.sequences[i];
    child.tokens.reserve(leader.tokens.size() + 64);
    child.tokens = group.request.prompt_token_ids;
    const SampledToken token = sampler_.Draw(child.random.UniformAt(0));
    if (Append(token, child)) continue;
    const auto copy = scheduler_.Fork(leader, num_prompt, &child);
    child.state = LiveSequence::State::kScheduled;
    if (copy) runner_->CopyBlock(copy->from, copy->to);
  }
  Append(sampler_.Draw(leader.random.UniformAt(0)), leader);
}

void Engine::SampleNext(LiveSequence& sequence, std::span<const float> logits) {
  const Status prepared = sampler_.SetRow(logits, sequence.group->request.law);
  if (!prepared.ok()) {
    Fail(sequence, prepared);
    return;
  }
  const auto number = static_cast<uint64_t>(sequence.num_known() - sequence.num_prompt);
  Append(sampler_.Draw(sequence.random.UniformAt(number)), sequence);
}

bool Engine::Append(const SampledToken& token, LiveSequence& sequence) {
  ++num_sampled_;
  sequence.tokens.push_back(token.token);
  sequence.sampled.token_ids.push_back(token.token);
  sequence.sampled.behavior_logprobs.push_back(token.logprob);
  sequence.sampled.policy_versions.push_back(sequence.group->policy_version);
  if (sequence.group->request.is_streaming) Stream(sequence);
  const std::vector<int32_t>& stops = sequence.group->request.stop_token_ids;
  bool is_stop = std::find(stops.begin(), stops.end(), token.token) != stops.end();
  if (sequence.stop_watcher && sequence.stop_watcher->EndsWith(token.token)) is_stop = true;
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
  copy_rest(sampled.policy_versions, &streamed.policy_versions);
  copy_rest(sampled.top_logprobs, &streamed.top_logprobs);
  sequence.num_streamed = static_cast<int32_t>(sampled.token_ids.size());
  result_.streamed.push_back(std::move(streamed));
}

void Engine::Complete(LiveSequence& sequence, CompletionEnd end) {
  CompletedSample sample;
  static_cast<SampledTokens&>(sample) = std::move(sequence.sampled);
  sample.end = end;
  Close(sequence, std::move(sample));
}

void Engine::Fail(LiveSequence& sequence, const Status& status) {
  CompletedSample sample;
  sample.status = status;
  Close(sequence, std::move(sample));
}

void Engine::FailGroup(Group& group, const Status& status) {
  for (LiveSequence& sequence : group.sequences) {
    if (sequence.state != LiveSequence::State::kClosed) Fail(sequence, status);
  }
}

void Engine::Close(LiveSequence& sequence, CompletedSample sample) {
  Group& group = *sequence.group;
  if (sequence.state == LiveSequence::State::kScheduled) scheduler_.Remove(&sequence);
  sequence.state = LiveSequence::State::kClosed;
  sample.group_id = group.request.group_id;
  sample.index = sequence.index;
  sample.policy_version = group.policy_version;
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
