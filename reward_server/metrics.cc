#include "reward_server/metrics.h"

namespace rollcall {
namespace {

constexpr char kTasks[] = "rollcall_reward_tasks_total";
constexpr char kTasksHelp[] = "Score tasks finished, by result.";
constexpr char kBreakers[] = "rollcall_reward_breakers";
constexpr char kBreakersHelp[] = "Circuit breakers of remote scorers in each state.";

}  // namespace

RewardMetrics::RewardMetrics(MetricsRegistry& registry)
    : registry_(registry),
      wait_for_work_(registry.GetCounter("rollcall_reward_wait_for_work_seconds_total",
                                         "Seconds spent asking for score tasks.")),
      wait_for_room_(registry.GetCounter("rollcall_reward_wait_for_room_seconds_total",
                                         "Seconds in which no task was asked for because enough "
                                         "are held.")),
      in_flight_(registry.GetGauge("rollcall_reward_tasks_in_flight", "Score tasks held.")),
      tasks_value_(registry.GetCounter(kTasks, kTasksHelp, {{"result", "value"}})),
      tasks_data_(registry.GetCounter(kTasks, kTasksHelp, {{"result", "data_failure"}})),
      tasks_infrastructure_(
          registry.GetCounter(kTasks, kTasksHelp, {{"result", "infrastructure_failure"}})),
      task_seconds_(registry.GetHistogram("rollcall_reward_task_seconds",
                                          "Seconds from lease to finished score.",
                                          LatencyBuckets())),
      lease_failures_(registry.GetCounter("rollcall_reward_lease_call_failures_total",
                                          "Calls for score tasks that failed.")),
      submit_failures_(registry.GetCounter("rollcall_reward_submit_call_failures_total",
                                           "Calls that hand in scores and failed.")),
      dropped_(registry.GetCounter("rollcall_reward_scores_dropped_total",
                                   "Scores that could not be handed in.")),
      cache_hits_(registry.GetCounter("rollcall_reward_cache_hits_total",
                                      "Scores answered from the cache.")),
      cache_misses_(registry.GetCounter("rollcall_reward_cache_misses_total",
                                        "Scores that had to be computed.")),
      cache_bytes_(registry.GetGauge("rollcall_reward_cache_bytes", "Memory of the cache.")),
      deduplicated_(registry.GetCounter("rollcall_reward_deduplicated_total",
                                        "Scores that joined one of the same content under way.")),
      retries_(registry.GetCounter("rollcall_reward_retries_total",
                                   "Retries after infrastructure failures.")),
      shed_(registry.GetCounter("rollcall_reward_shed_total",
                                "Scores refused because the queue was full.")),
      queue_depth_(registry.GetGauge("rollcall_reward_queue_depth",
                                     "Scores waiting for a thread or for their retry.")),
      breakers_{&registry.GetGauge(kBreakers, kBreakersHelp, {{"state", "closed"}}),
                &registry.GetGauge(kBreakers, kBreakersHelp, {{"state", "open"}}),
                &registry.GetGauge(kBreakers, kBreakersHelp, {{"state", "half_open"}})} {}

void RewardMetrics::TaskDone(const ScoreResult& reward, double seconds) {
  task_seconds_.Observe(seconds);
  (reward.ok()                          ? tasks_value_
   : reward.is_infrastructure_failure() ? tasks_infrastructure_
                                        : tasks_data_)
      .Increment();
}

void RewardMetrics::Scored(const std::string& scorer, double seconds) {
  registry_
      .GetHistogram("rollcall_reward_score_seconds", "Seconds of one attempt of a scorer.",
                    LatencyBuckets(), {{"scorer", scorer}})
      .Observe(seconds);
}

void RewardMetrics::ScoreFailed(const ScoreFailure& failure) {
  const bool is_data = failure.kind == FailureKind::kData;
  registry_
      .GetCounter("rollcall_reward_failures_total", "Failed scores, by kind and reason.",
                  {{"kind", is_data ? "data" : "infrastructure"}, {"reason", failure.reason}})
      .Increment();
}

void RewardMetrics::Breakers(const std::array<int, 3>& counts) {
  for (size_t i = 0; i < counts.size(); ++i) breakers_[i]->Set(counts[i]);
}

}  // namespace rollcall
