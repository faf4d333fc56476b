#include "rollout_worker/migration/metrics.h"

namespace rollcall {
namespace {

Counter& Migrations(MetricsRegistry& registry, const std::string& result) {
  return registry.GetCounter("rollcall_rollout_migrations_total",
                             "Sequences that moved between workers, or tried to.",
                             {{"result", result}});
}

}  // namespace

MigrationMetrics::MigrationMetrics(MetricsRegistry& registry)
    : moved_out_(Migrations(registry, "moved_out")),
      abandoned_(Migrations(registry, "abandoned")),
      reclaimed_(Migrations(registry, "reclaimed")),
      moved_in_(Migrations(registry, "moved_in")),
      refused_(Migrations(registry, "refused")),
      sent_bytes_(registry.GetCounter("rollcall_rollout_migration_sent_bytes_total",
                                      "KV memory sent to other workers.")),
      pause_seconds_(registry.GetHistogram(
          "rollcall_rollout_migration_pause_seconds",
          "From a moving sequence's last token at its source to its next token.",
          LatencyBuckets())),
      stages_(registry.GetHistogram("rollcall_rollout_migration_stages",
                                    "Copies of a moving sequence, the last one included.",
                                    {1, 2, 3, 4, 6, 8})) {}

void MigrationMetrics::MovedOut(int num_stages, double pause_seconds) {
  moved_out_.Increment(1);
  stages_.Observe(num_stages);
  pause_seconds_.Observe(pause_seconds);
}

}  // namespace rollcall
