#include "rollout_worker/engine/engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "rollout_worker/engine/group.h"
#include "rollout_worker/runner/backend.h"
#include "rollout_worker/runner/decoder_runner.h"
#include "rollout_worker/scheduler/freeness.h"

namespace rollcall {

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
      runner_(std::move(runner)),
      scheduler_(std::make_unique<Scheduler>(options.scheduler, cache_)),
      sampler_(config.vocab_size) {
  batch_.on_scored = [this](size_t first, std::span<const float> logits) {
    TakePromptScores(first, logits);
  };
}

Status Engine::AllocateSwap() {
  ROLLCALL_CHECK(groups_.empty() && swap_ == nullptr, "swap space comes before the first group");
  if (options_.swap_bytes == 0 || options_.scheduler.preemption == Preemption::kRecompute) {
    return OkStatus();
  }
  // A transfer that finds the queue full is made by the engine itself.
  constexpr size_t kMaxQueuedTransfers = 256;
  if (options_.num_swap_threads == 0) {
    swap_executor_ = std::make_unique<InlineExecutor>();
  } else {
    swap_executor_ = MakeThreadPool(options_.num_swap_threads, kMaxQueuedTransfers);
  }
  ROLLCALL_ASSIGN_OR_RETURN(swap_, SwapSpace::Create(options_.swap_bytes, options_.block_size,
                                                     *runner_, *swap_executor_));
  scheduler_ = std::make_unique<Scheduler>(options_.scheduler, cache_, swap_.get());
  return OkStatus();
}

Engine::~Engine() = default;

StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                 const ModelConfig& config, EngineMetrics metrics,
                                                 const Clock& clock) {
  ROLLCALL_ASSIGN_OR_RETURN(const int32_t num_blocks, NumKvBlocks(options, config));
  const DecoderRunnerOptions runner_options{.num_blocks = num_blocks,
                                            .block_size = options.block_size,
                                            .compute_threads = options.compute_threads};
  ROLLCALL_ASSIGN_OR_RETURN(auto runner, options.backend == nullptr
                                             ? MakeDecoderRunner(config, runner_options)
                                             : options.backend->MakeRunner(config, runner_options));
  auto engine =
      std::make_unique<Engine>(options, config, num_blocks, std::move(runner), metrics, clock);
  ROLLCALL_RETURN_IF_ERROR(engine->AllocateSwap());
  return engine;
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

Status Engine::SwitchGroups(ModelId id, UpdateMode mode) {
  const auto model = models_.find(id);
  if (model == models_.end()) return NotFound("this version of the weights is not loaded");
  if (mode == UpdateMode::kDrain) return OkStatus();
  std::vector<ModelId> released;
  for (auto& [group_id, group] : groups_) {
    if (group->request.model >= id || group->request.is_version_pinned) continue;
    if (group->beams != nullptr) continue;  // scores of two policies cannot be compared
    released.push_back(group->request.model);
    ++model->second.num_groups;
    group->request.model = id;
    group->policy_version = model->second.policy_version;
    for (LiveSequence& sequence : group->sequences) {
      sequence.model = id;
      if (sequence.state != LiveSequence::State::kScheduled) continue;
      // A prompt that is half computed has given nothing yet: it is cheap and clean to begin anew.
      if (mode == UpdateMode::kRecompute || !group->forked || sequence.num_computed == 0) {
        scheduler_->Restart(&sequence);
        if (sequence.index == 0 && !group->is_prompt_scored()) group->prompt = {};
      } else {
        sequence.has_stale_blocks = true;
        sequence.blocks.StopIndexing();
      }
    }
  }
  for (const ModelId old : released) ReleaseModel(old);
  return OkStatus();
}

Status Engine::AddGroup(GroupRequest request) {
  const auto model = models_.find(request.model);
  if (model == models_.end()) return NotFound("this version of the weights is not loaded");
  ROLLCALL_RETURN_IF_ERROR(CheckGroup(request));
  // A budget that covers everything forgets nothing; what it remembers of its slots is not needed.
  if (request.heavy_hitters.budget() >= MaxTokens(request, config_)) request.heavy_hitters = {};
  Group& group = InsertGroup(std::move(request), &model->second);
  if (group.request.started.empty()) {
    LiveSequence& leader = group.sequences.front();
    leader.tokens = group.request.prompt_token_ids;
    leader.num_forks = static_cast<int32_t>(group.sequences.size()) - 1;
    leader.state = LiveSequence::State::kScheduled;
    scheduler_->Add(&leader);
    return OkStatus();
  }
  group.forked = true;
  for (LiveSequence& sequence : group.sequences) {
    Restore(&sequence);
    scheduler_->Add(&sequence);
  }
  return OkStatus();
}

Engine::Group& Engine::InsertGroup(GroupRequest request, LoadedModel* model) {
  auto group = std::make_unique<Group>();
  group->policy_version = model->policy_version;
  group->max_tokens = MaxTokens(request, config_);
  group->num_open = request.stream_keys.size();
  const auto num_sequences =
      request.beam_search ? static_cast<size_t>(request.beam_search->num_beams) : group->num_open;
  group->sequences = std::vector<LiveSequence>(num_sequences);
  if (request.beam_search) {
    const auto num_prompt = static_cast<int32_t>(request.prompt_token_ids.size());
    BeamSearch search(*request.beam_search,
                      {.max_new_tokens = group->max_tokens - num_prompt,
                       .stop_token_ids = request.stop_token_ids},
                      config_.vocab_size);
    group->beams =
        std::make_unique<Beams>(Beams{std::move(search), {&group->sequences.front()}, OkStatus()});
  }
  const AccountId account = scheduler_->fair_share().Account(request.tenant);
  const absl::Time now = clock_.Now();
  for (size_t i = 0; i < num_sequences; ++i) {
    LiveSequence& sequence = group->sequences[i];
    sequence.arrival = next_arrival_++;
    sequence.priority = request.priority;
    sequence.account = account;
    sequence.model = request.model;
    sequence.num_prompt = static_cast<int32_t>(request.prompt_token_ids.size());
    sequence.max_tokens = group->max_tokens;
    // The first one computes every token of a prompt whose log-probabilities are wanted.
    sequence.skips_prefix_cache =
        (request.wants_prompt_logprobs && i == 0) || request.heavy_hitters.is_on();
    sequence.kv_budget = request.heavy_hitters.is_on() ? request.heavy_hitters.budget() : 0;
    sequence.group = group.get();
    sequence.index = static_cast<int32_t>(i);
    if (i < request.stream_keys.size()) sequence.random = CounterRandom(request.stream_keys[i]);
    sequence.times.queued = now;
    if (request.make_stop_watcher) sequence.stop_watcher = request.make_stop_watcher();
    if (request.grammar != nullptr) sequence.grammar.emplace(request.grammar);
  }
  const uint64_t group_id = request.group_id;
  group->request = std::move(request);
  const auto [it, inserted] = groups_.emplace(group_id, std::move(group));
  ROLLCALL_CHECK(inserted, "two live groups have the same id");
  ++model->num_groups;
  return *it->second;
}

void Engine::Restore(LiveSequence* sequence) {
  const GroupRequest& request = sequence->group->request;
  const StartedCompletion& started = request.started[static_cast<size_t>(sequence->index)];
  sequence->tokens = request.prompt_token_ids;
  sequence->tokens.insert(sequence->tokens.end(), started.token_ids.begin(),
                          started.token_ids.end());
  if (sequence->stop_watcher) {
    for (const int32_t token : started.token_ids) sequence->stop_watcher->EndsWith(token);
  }
  if (sequence->grammar) {
    for (const int32_t token : started.token_ids) {
      ROLLCALL_CHECK(sequence->grammar->Advance(token).ok(), "CheckGroup read it already");
    }
  }
  sequence->num_streamed = static_cast<int32_t>(started.token_ids.size());
  sequence->sampled.token_ids = started.token_ids;
  sequence->sampled.behavior_logprobs = started.behavior_logprobs;
  sequence->sampled.model_logprobs = started.model_logprobs;
  sequence->sampled.kept_masses = started.kept_masses;
  sequence->sampled.kept_sets = started.kept_sets;
  sequence->sampled.policy_versions = started.policy_versions;
  sequence->state = LiveSequence::State::kScheduled;
}

bool Engine::SetPriority(uint64_t group_id, int32_t priority) {
  const auto it = groups_.find(group_id);
  if (it == groups_.end()) return false;
  for (LiveSequence& sequence : it->second->sequences) {
    if (sequence.state == LiveSequence::State::kScheduled) {
      scheduler_->SetPriority(&sequence, priority);
    } else {
      sequence.priority = priority;
    }
  }
  return true;
}

void Engine::SetTenantWeight(const std::string& tenant, double weight) {
  FairShare& shares = scheduler_->fair_share();
  shares.SetWeight(shares.Account(tenant), weight);
}

double Engine::FreenessNow() const {
  std::vector<RunningLoad> running;
  running.reserve(scheduler_->num_running());
  for (const Sequence* sequence : scheduler_->running()) {
    running.push_back({sequence->blocks.size(), sequence->priority});
  }
  return Freeness({.num_blocks = cache_.num_blocks(),
                   .running = running,
                   .num_waiting = static_cast<int32_t>(scheduler_->num_waiting()),
                   .head_demand_blocks = scheduler_->HeadDemandBlocks()});
}

bool Engine::Abort(uint64_t group_id) {
  const auto it = groups_.find(group_id);
  if (it == groups_.end()) return false;
  for (LiveSequence& sequence : it->second->sequences) {
    if (sequence.state == LiveSequence::State::kScheduled) scheduler_->Remove(&sequence);
  }
  const ModelId model = it->second->request.model;
  groups_.erase(it);
  ReleaseModel(model);
  return true;
}

}  // namespace rollcall
