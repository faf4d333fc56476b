#include "rollout_worker/engine_loop.h"

#include <algorithm>
#include <utility>

namespace rollcall {
namespace {

constexpr absl::Duration kLoadInterval = absl::Milliseconds(200);

}  // namespace

EngineEvents SplitByGroup(std::vector<std::pair<uint64_t, EngineEvents>> users) {
  ROLLCALL_CHECK(!users.empty() && users.front().first == 0, "every group has a user");
  const auto shared =
      std::make_shared<const std::vector<std::pair<uint64_t, EngineEvents>>>(std::move(users));
  const auto user_of = [shared](uint64_t group_id) -> size_t {
    size_t user = shared->size() - 1;
    while ((*shared)[user].first > group_id) --user;
    return user;
  };
  // Each user's share of a list, in order.
  const auto deal = [shared, user_of](auto items, auto&& hand_over) {
    std::vector<decltype(items)> shares(shared->size());
    for (auto& item : items) shares[user_of(item.group_id)].push_back(std::move(item));
    for (size_t user = 0; user < shares.size(); ++user) {
      if (!shares[user].empty()) hand_over((*shared)[user].second, std::move(shares[user]));
    }
  };
  EngineEvents events;
  events.on_tokens = [deal](std::vector<StreamedTokens> tokens) {
    deal(std::move(tokens), [](const EngineEvents& user, std::vector<StreamedTokens> share) {
      if (user.on_tokens) user.on_tokens(std::move(share));
    });
  };
  events.on_samples = [deal](std::vector<CompletedSample> samples) {
    deal(std::move(samples), [](const EngineEvents& user, std::vector<CompletedSample> share) {
      user.on_samples(std::move(share));
    });
  };
  events.on_group_failed = [shared, user_of](uint64_t group_id, const Status& status) {
    (*shared)[user_of(group_id)].second.on_group_failed(group_id, status);
  };
  events.on_step = [shared] {
    for (const auto& [first, user] : *shared) user.on_step();
  };
  events.on_loads = [shared](const std::vector<JobLoad>& loads) {
    for (const auto& [first, user] : *shared) {
      if (user.on_loads) user.on_loads(loads);
    }
  };
  return events;
}

EngineLoop::EngineLoop(const EngineLoopOptions& options, EngineEvents events,
                       MetricsRegistry& registry, RolloutMetrics& metrics, Logger& logger,
                       const Clock& clock)
    : options_(options),
      events_(std::move(events)),
      engine_metrics_(registry),
      metrics_(metrics),
      logger_(logger),
      clock_(clock),
      thread_([this] { Loop(); }) {}

EngineLoop::~EngineLoop() { Stop(); }

void EngineLoop::Stop() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    posted_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void EngineLoop::Post(std::function<void()> command) {
  MutexLock lock(mu_);
  inbox_.push_back(std::move(command));
  posted_.NotifyOne();
}

void EngineLoop::AddModel(UsableModel model) {
  Post([this, model = std::move(model)]() mutable { DoAddModel(std::move(model)); });
}

void EngineLoop::AddGroup(GroupWork work) {
  Post([this, work = std::move(work)]() mutable { DoAddGroup(std::move(work)); });
}

void EngineLoop::Abort(uint64_t group_id) {
  Post([this, group_id] { DoAbort(group_id); });
}

void EngineLoop::SwitchGroups(const std::string& job_id, ModelId model) {
  Post([this, job_id, model] {
    const auto job = jobs_.find(job_id);
    if (job == jobs_.end() || !job->second.engine) return;
    const Status status = job->second.engine->SwitchGroups(model, job->second.update_mode);
    // Dropped again: a newer one is loaded and will be switched to.
    if (!status.ok()) logger_.Warning("no switch: " + Message(status) + " job=" + job_id);
  });
}

void EngineLoop::SetPaused(bool is_paused) {
  Post([this, is_paused] {
    is_paused_ = is_paused;
    for (auto& [job_id, job] : jobs_) {
      if (!job.engine) continue;
      if (is_paused) {
        job.engine->Pause();
      } else {
        job.engine->Resume();
      }
    }
  });
}

void EngineLoop::DropJob(const std::string& job_id) {
  Post([this, job_id] {
    jobs_.erase(job_id);
    std::erase_if(groups_, [&](const auto& entry) { return entry.second.job_id == job_id; });
  });
}

void EngineLoop::RunOn(const std::string& job_id, std::function<void(Engine*)> call) {
  Post([this, job_id, call = std::move(call)] {
    const auto job = jobs_.find(job_id);
    call(job == jobs_.end() ? nullptr : job->second.engine.get());
  });
}

void EngineLoop::Adopt(AdoptWork work, std::function<void(const Status&)> done) {
  auto shared = std::make_shared<AdoptWork>(std::move(work));
  RunOn(shared->job_id, [this, shared, done = std::move(done)](Engine* engine) {
    if (engine == nullptr) {
      done(NotFound("the job's weights are not loaded"));
      return;
    }
    const uint64_t group_id = shared->state.request.group_id;
    const Status status = engine->Adopt(shared->reservation, std::move(shared->state));
    if (status.ok()) {
      next_deadline_ = std::min(next_deadline_, shared->deadline);
      groups_.emplace(group_id, LiveGroup{shared->job_id, shared->deadline, 1});
    }
    done(status);
  });
}

void EngineLoop::Deliver(const std::string& job_id, uint64_t group_id, int32_t index,
                         SampledTokens tokens, std::optional<CompletionEnd> end,
                         std::function<void(const Status&)> done) {
  RunOn(job_id, [this, group_id, index, tokens = std::move(tokens), end,
                 done = std::move(done)](Engine* engine) {
    StepResult result;
    const Status status = engine == nullptr
                              ? NotFound("the job ended")
                              : engine->Deliver(group_id, index, tokens, end, &result);
    Report(std::move(result));
    done(status);
  });
}

void EngineLoop::SetWaitingForWeights(bool waiting) {
  MutexLock lock(mu_);
  waiting_for_weights_ = waiting;
}

bool EngineLoop::HasWork() const {
  return std::any_of(jobs_.begin(), jobs_.end(), [](const auto& entry) {
    return entry.second.engine && entry.second.engine->has_work();
  });
}

bool EngineLoop::TakeCommands(std::vector<std::function<void()>>* commands) {
  const bool busy = HasWork();
  MutexLock lock(mu_);
  if (!busy && inbox_.empty() && !stopping_) {
    const absl::Time start = clock_.Now();
    posted_.WaitFor(mu_, absl::Milliseconds(200));
    const double waited = absl::ToDoubleSeconds(clock_.Now() - start);
    if (waiting_for_weights_) {
      metrics_.WaitedForWeights(waited);
    } else {
      metrics_.WaitedForLeases(waited);
    }
  }
  commands->swap(inbox_);
  return !stopping_;
}

void EngineLoop::Loop() {
  std::vector<std::function<void()>> commands;
  while (TakeCommands(&commands)) {
    for (const auto& command : commands) command();
    commands.clear();
    if (clock_.Now() >= next_deadline_) ExpireGroups();
    if (HasWork()) {
      StepAll();
    } else {
      DropIdleJobs();
    }
    ReportOccupancy();
  }
  // Engines end on the thread that used them.
  jobs_.clear();
}

void EngineLoop::StepAll() {
  for (auto& [job_id, job] : jobs_) {
    if (!job.engine || !job.engine->has_work()) continue;
    job.last_used = clock_.Now();
    Report(job.engine->Step());
    events_.on_step();
  }
}

void EngineLoop::Report(StepResult result) {
  for (const CompletedSample& sample : result.completed) {
    const auto group = groups_.find(sample.group_id);
    if (--group->second.num_open == 0) groups_.erase(group);
  }
  if (!result.streamed.empty() && events_.on_tokens) {
    events_.on_tokens(std::move(result.streamed));
  }
  if (!result.completed.empty()) events_.on_samples(std::move(result.completed));
}

void EngineLoop::ReportOccupancy() {
  size_t running = 0;
  size_t waiting = 0;
  int64_t used = 0;
  int64_t total = 0;
  for (const auto& [job_id, job] : jobs_) {
    if (!job.engine) continue;
    running += job.engine->num_running();
    waiting += job.engine->num_waiting();
    used += job.engine->cache().num_used();
    total += job.engine->cache().num_blocks();
  }
  metrics_.Occupancy(running, waiting, used, total);
  const absl::Time now = clock_.Now();
  if (!events_.on_loads || now < next_load_report_) return;
  next_load_report_ = now + kLoadInterval;
  std::vector<JobLoad> loads;
  for (const auto& [job_id, job] : jobs_) {
    if (!job.engine) continue;
    const Engine& engine = *job.engine;
    loads.push_back({.job_id = job_id,
                     .policy_version = engine.newest_version(),
                     .freeness = engine.FreenessNow(),
                     .num_running = static_cast<int32_t>(engine.num_running()),
                     .num_waiting = static_cast<int32_t>(engine.num_waiting()),
                     .num_used_blocks = engine.cache().num_used(),
                     .num_blocks = engine.cache().num_blocks()});
  }
  events_.on_loads(std::move(loads));
}

void EngineLoop::ExpireGroups() {
  const absl::Time now = clock_.Now();
  std::vector<uint64_t> expired;
  next_deadline_ = absl::InfiniteFuture();
  for (const auto& [group_id, group] : groups_) {
    if (group.deadline <= now) {
      expired.push_back(group_id);
    } else {
      next_deadline_ = std::min(next_deadline_, group.deadline);
    }
  }
  for (const uint64_t group_id : expired) {
    DoAbort(group_id);
    events_.on_group_failed(group_id, DeadlineExceeded("the lease's deadline passed"));
  }
}

void EngineLoop::DropIdleJobs() {
  const absl::Time now = clock_.Now();
  std::erase_if(jobs_, [&](const auto& entry) {
    return now - entry.second.last_used > options_.idle_job_timeout;
  });
}

void EngineLoop::DoAddModel(UsableModel model) {
  const auto [it, inserted] = jobs_.try_emplace(model.job_id);
  JobEngine& job = it->second;
  job.last_used = clock_.Now();
  if (!job.engine) {
    auto engine = Engine::Create(options_.engine, model.config, engine_metrics_, clock_);
    job.status = engine.status();
    if (!engine.ok()) {
      logger_.Error("no engine for the job: " + Message(engine.status()) + " job=" + model.job_id);
      return;
    }
    job.engine = *std::move(engine);
    if (is_paused_) job.engine->Pause();
  }
  job.update_mode = model.update_mode;
  job.engine->AddModel(model.id, model.policy_version, std::move(model.model));
}

void EngineLoop::DoAddGroup(GroupWork work) {
  const uint64_t group_id = work.request.group_id;
  const size_t num_samples = work.request.stream_keys.size();
  const auto job = jobs_.find(work.job_id);
  if (job == jobs_.end()) {
    // Its engine was given up while it was idle.
    events_.on_group_failed(group_id, NotFound("the job's weights are not loaded"));
    return;
  }
  if (!job->second.engine) {
    events_.on_group_failed(group_id, FailedPrecondition(Message(job->second.status)));
    return;
  }
  const Status status = job->second.engine->AddGroup(std::move(work.request));
  if (!status.ok()) {
    events_.on_group_failed(group_id, status);
    return;
  }
  next_deadline_ = std::min(next_deadline_, work.deadline);
  groups_.emplace(group_id, LiveGroup{work.job_id, work.deadline, num_samples});
}

void EngineLoop::DoAbort(uint64_t group_id) {
  const auto group = groups_.find(group_id);
  if (group == groups_.end()) return;
  const auto job = jobs_.find(group->second.job_id);
  if (job != jobs_.end() && job->second.engine) job->second.engine->Abort(group_id);
  groups_.erase(group);
}

}  // namespace rollcall
