#include "rollout_worker/serving/generator.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace rollcall {
namespace {

// A version can be dropped between the time that it was found and the time that it is used.
constexpr int kMaxAcquisitions = 3;
constexpr absl::Duration kDeliveryWait = absl::Milliseconds(200);

CallFailure ToFailure(const Status& status) {
  switch (status.code()) {
    case StatusCode::kDeadlineExceeded:
      return CallFailure::kDeadline;
    case StatusCode::kUnavailable:
      return CallFailure::kShutdown;
    default:
      return CallFailure::kOther;
  }
}

}  // namespace

Generator::Generator(const GeneratorOptions& options, ServingMetrics& metrics, const Clock& clock)
    : options_(options),
      metrics_(metrics),
      clock_(clock),
      // Every admitted call may wait for it.
      grammar_thread_(MakeThreadPool(1, static_cast<size_t>(options.max_open_samples))),
      thread_([this] { DeliveryLoop(); }) {}

Generator::~Generator() { Stop(); }

EngineEvents Generator::events() {
  return {.on_tokens = [this](auto tokens) { OnTokens(std::move(tokens)); },
          .on_samples = [this](auto samples) { OnSamples(std::move(samples)); },
          .on_group_failed = [this](uint64_t group,
                                    const Status& status) { OnGroupFailed(group, status); },
          .on_step = [] {}};
}

void Generator::SetLoop(EngineLoop* loop) {
  MutexLock lock(mu_);
  loop_ = loop;
}

size_t Generator::num_open_samples() const {
  MutexLock lock(mu_);
  return num_open_samples_;
}

// --- starting ---------------------------------------------------------------------------------

StatusOr<uint64_t> Generator::Start(GenerationCall call) {
  size_t num_samples = 0;
  for (const GroupRequest& group : call.groups) num_samples += group.stream_keys.size();
  const auto max_open = static_cast<size_t>(options_.max_open_samples);
  if (num_samples > max_open) {
    return InvalidArgument("the request asks for " + std::to_string(num_samples) +
                           " completions, at most " + std::to_string(max_open) + " are possible");
  }
  const std::shared_ptr<ServedPolicy> policy = call.model->policy;
  const absl::Time deadline = call.deadline;
  const bool makes_grammar = call.make_grammar != nullptr;
  uint64_t id = 0;
  Status queued;
  {
    MutexLock lock(mu_);
    if (is_draining_) return Unavailable("the service is shutting down");
    if (num_open_samples_ + num_samples > max_open) {
      metrics_.CallShed();
      return ResourceExhausted("the service is busy: " + std::to_string(num_open_samples_) +
                               " completions are running or waiting; try again later");
    }
    id = next_call_++;
    num_open_samples_ += num_samples;
    metrics_.OpenSamples(num_open_samples_);
    metrics_.CallStarted();
    Call& open = calls_[id];
    open.model = std::move(call.model);
    open.listener = std::move(call.listener);
    open.arrival = call.arrival;
    open.deadline = deadline;
    open.num_open = num_samples;
    open.groups = std::move(call.groups);
    open.make_grammar = std::move(call.make_grammar);
    for (size_t i = 0; i < open.groups.size(); ++i) {
      GroupRequest& group = open.groups[i];
      group.group_id = next_group_++;
      open.group_ids.push_back(group.group_id);
      Group& known = groups_[group.group_id];
      known = {.call = id, .index = static_cast<int32_t>(i)};
      known.num_prompt_tokens = group.prompt_token_ids.size();
      known.max_tokens = group.max_new_tokens;
      known.last_token.assign(group.stream_keys.size(), absl::InfinitePast());
    }
    if (makes_grammar) queued = grammar_thread_->Schedule([this, id] { MakeGrammar(id); });
  }
  if (!queued.ok()) {
    FailCall(id, ResourceExhausted("the service is busy compiling grammars; try again later"));
  } else if (!makes_grammar) {
    Acquire(id, policy, deadline);
  }
  return id;
}

void Generator::MakeGrammar(uint64_t id) {
  std::function<StatusOr<std::shared_ptr<const TokenGrammar>>()> make_grammar;
  absl::Time deadline;
  {
    MutexLock lock(mu_);
    const auto it = calls_.find(id);
    if (it == calls_.end()) return;
    make_grammar = std::move(it->second.make_grammar);
    deadline = it->second.deadline;
  }
  if (clock_.Now() >= deadline) {
    return FailCall(id, DeadlineExceeded("the grammar was not compiled in time"));
  }
  const StatusOr<std::shared_ptr<const TokenGrammar>> grammar = make_grammar();
  if (!grammar.ok()) return FailCall(id, grammar.status());
  std::shared_ptr<ServedPolicy> policy;
  {
    MutexLock lock(mu_);
    const auto it = calls_.find(id);
    if (it == calls_.end()) return;
    for (GroupRequest& group : it->second.groups) group.grammar = *grammar;
    policy = it->second.model->policy;
  }
  Acquire(id, policy, deadline);
}

void Generator::Acquire(uint64_t id, const std::shared_ptr<ServedPolicy>& policy,
                        absl::Time deadline) {
  policy->Acquire(deadline, [this, id](const StatusOr<ModelId>& model) { OnAcquired(id, model); });
}

void Generator::OnAcquired(uint64_t id, const StatusOr<ModelId>& model) {
  if (!model.ok()) return FailCall(id, model.status());
  std::vector<GroupWork> work;
  EngineLoop* loop = nullptr;
  {
    MutexLock lock(mu_);
    const auto it = calls_.find(id);
    if (it == calls_.end() || loop_ == nullptr) return;
    Call& call = it->second;
    call.model_id = *model;
    ++call.num_acquired;
    for (const GroupRequest& group : call.groups) {
      work.push_back(
          {.job_id = call.model->policy->job_id(), .deadline = call.deadline, .request = group});
      work.back().request.model = *model;
    }
    loop = loop_;
  }
  for (GroupWork& group : work) loop->AddGroup(std::move(group));
}

// --- events -----------------------------------------------------------------------------------

void Generator::OnTokens(std::vector<StreamedTokens> tokens) {
  struct Streamed {
    std::shared_ptr<GenerationListener> listener;
    int32_t group = 0;
    StreamedTokens tokens;
  };
  std::vector<Streamed> streamed;
  const absl::Time now = clock_.Now();
  MutexLock lock(mu_);
  for (StreamedTokens& piece : tokens) {
    const auto group = groups_.find(piece.group_id);
    if (group == groups_.end()) continue;
    absl::Time& last = group->second.last_token[static_cast<size_t>(piece.index)];
    if (last != absl::InfinitePast()) metrics_.TokenAfter(absl::ToDoubleSeconds(now - last));
    last = now;
    streamed.push_back(
        {calls_.at(group->second.call).listener, group->second.index, std::move(piece)});
  }
  if (streamed.empty()) return;
  Deliver([streamed = std::move(streamed)] {
    for (const Streamed& piece : streamed) piece.listener->OnTokens(piece.group, piece.tokens);
  });
}

void Generator::OnSamples(std::vector<CompletedSample> samples) {
  MutexLock lock(mu_);
  for (CompletedSample& sample : samples) {
    const auto group = groups_.find(sample.group_id);
    if (group == groups_.end()) continue;
    const uint64_t id = group->second.call;
    Call& call = calls_.at(id);
    if (sample.status.ok()) Observe(call, group->second, sample);
    --num_open_samples_;
    --call.num_open;
    const int32_t index = group->second.index;
    Deliver([listener = call.listener, index, sample = std::move(sample)] {
      listener->OnSample(index, sample);
    });
    if (call.num_open == 0) Remove(id);
  }
  metrics_.OpenSamples(num_open_samples_);
}

void Generator::Observe(const Call& call, const Group& group, const CompletedSample& sample) {
  metrics_.SampleFinished(
      {.end = sample.end,
       .arrival = call.arrival,
       .finished = clock_.Now(),
       .times = sample.times,
       .num_prompt_tokens = group.num_prompt_tokens,
       .num_cached_tokens = static_cast<size_t>(sample.num_cached_prompt_tokens),
       .num_tokens = sample.token_ids.size(),
       .max_tokens = group.max_tokens,
       .num_samples = group.last_token.size(),
       .is_first = sample.index == 0});
}

void Generator::OnGroupFailed(uint64_t group_id, const Status& status) {
  uint64_t id = 0;
  std::shared_ptr<ServedPolicy> policy;
  ModelId dropped = 0;
  absl::Time deadline;
  std::vector<uint64_t> started;
  {
    MutexLock lock(mu_);
    const auto group = groups_.find(group_id);
    if (group == groups_.end()) return;
    id = group->second.call;
    const Call& call = calls_.at(id);
    if (status.code() != StatusCode::kNotFound || call.num_acquired >= kMaxAcquisitions) {
      started.clear();
    } else if (call.group_ids.front() == group_id) {
      started = call.group_ids;
    } else {
      // Its first group did not find the weights either, and has all start again.
      return;
    }
    policy = call.model->policy;
    dropped = call.model_id;
    deadline = call.deadline;
  }
  if (started.empty()) {
    // What does not fit into the whole cache never will: the request is too long.
    const bool never_fits = status.code() == StatusCode::kResourceExhausted;
    return FailCall(id, never_fits ? MakeStatus(StatusCode::kOutOfRange, Message(status)) : status);
  }
  policy->Dropped(dropped);
  AbortGroups(started);
  Acquire(id, policy, deadline);
}

void Generator::FailCall(uint64_t id, const Status& status) {
  std::vector<uint64_t> groups;
  {
    MutexLock lock(mu_);
    const auto it = calls_.find(id);
    if (it == calls_.end()) return;
    metrics_.CallFailed(ToFailure(status));
    Deliver([listener = it->second.listener, status] { listener->OnFailed(status); });
    groups = Remove(id);
  }
  AbortGroups(groups);
}

void Generator::Abort(uint64_t id) {
  std::vector<uint64_t> groups;
  {
    MutexLock lock(mu_);
    if (!calls_.contains(id)) return;
    metrics_.CallFailed(CallFailure::kClientGone);
    groups = Remove(id);
  }
  AbortGroups(groups);
}

void Generator::DropJob(const std::string& job_id) {
  std::vector<uint64_t> ended;
  {
    MutexLock lock(mu_);
    for (const auto& [id, call] : calls_) {
      if (call.model->policy->job_id() == job_id) ended.push_back(id);
    }
  }
  for (const uint64_t id : ended) FailCall(id, Unavailable("the job '" + job_id + "' has ended"));
}

std::vector<uint64_t> Generator::Remove(uint64_t id) {
  const auto it = calls_.find(id);
  std::vector<uint64_t> groups = std::move(it->second.group_ids);
  for (const uint64_t group : groups) groups_.erase(group);
  num_open_samples_ -= it->second.num_open;
  metrics_.OpenSamples(num_open_samples_);
  // The listener goes on the delivery thread: what it holds may be large.
  Deliver([listener = std::move(it->second.listener)] {});
  calls_.erase(it);
  if (calls_.empty()) call_over_.NotifyAll();
  return groups;
}

void Generator::AbortGroups(const std::vector<uint64_t>& groups) {
  EngineLoop* loop = nullptr;
  {
    MutexLock lock(mu_);
    loop = loop_;
  }
  if (loop == nullptr) return;
  for (const uint64_t group : groups) loop->Abort(group);
}

// --- delivery and end -------------------------------------------------------------------------

void Generator::Deliver(Delivery delivery) {
  deliveries_.push_back(std::move(delivery));
  delivery_posted_.NotifyOne();
}

void Generator::DeliveryLoop() {
  while (true) {
    std::vector<Delivery> deliveries;
    {
      MutexLock lock(mu_);
      if (deliveries_.empty()) {
        if (is_stopping_) return;
        delivery_posted_.WaitFor(mu_, kDeliveryWait);
      }
      deliveries.swap(deliveries_);
    }
    for (const Delivery& delivery : deliveries) delivery();
  }
}

void Generator::Drain(absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  std::vector<uint64_t> left;
  {
    MutexLock lock(mu_);
    is_draining_ = true;
    while (!calls_.empty() && absl::Now() < deadline) {
      call_over_.WaitFor(mu_, deadline - absl::Now());
    }
    for (const auto& [id, call] : calls_) left.push_back(id);
  }
  for (const uint64_t id : left) FailCall(id, Unavailable("the service is shutting down"));
}

void Generator::Stop() {
  std::unique_ptr<Executor> grammar_thread;
  {
    MutexLock lock(mu_);
    is_draining_ = true;
    is_stopping_ = true;
    loop_ = nullptr;
    grammar_thread = std::move(grammar_thread_);
    delivery_posted_.NotifyAll();
  }
  // What it still has finds no call any more, or no loop.
  grammar_thread.reset();
  if (thread_.joinable()) thread_.join();
}

}  // namespace rollcall
