// The journal as the core sees it: append now, be told when it is safe.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "services/base/log/log.h"
#include "services/base/metrics/metrics.h"
#include "services/base/runtime/clock.h"
#include "services/coordinator/journal/records.h"
#include "services/coordinator/journal/sqlite_store.h"

namespace rollcall::coordinator {

// Thread-safe.
class Journal {
 public:
  virtual ~Journal() = default;
  // Keeps the order of calls and returns at once. `done` (may be null) runs on a thread of the
  // journal when these records and all before them are durable; it never runs when they are lost.
  virtual void Append(std::vector<Record> records, std::function<void()> done) = 0;
  // Runs fn on a thread of the journal, after everything appended before is durable.
  virtual void Read(std::function<void(SqliteStore&)> fn) = 0;
  // The journal is so far behind that no new work should be handed out.
  virtual bool congested() const = 0;
};

struct AsyncJournalOptions {
  std::string path;
  // Most records in one transaction.
  size_t max_batch_records = 4096;
  // Records waiting above which congested() says so.
  size_t congestion_records = 200'000;
};

// A writer thread with group commit and a reader thread with a connection of its own. A failed
// transaction (disk full) is tried again until it succeeds; until then nothing is acknowledged,
// congested() is true and the log says why. The destructor writes what is queued, once.
class AsyncJournal : public Journal {
 public:
  // Takes the store that recovery read from, so that the file is owned without a gap.
  static StatusOr<std::unique_ptr<AsyncJournal>> Start(const AsyncJournalOptions& options,
                                                       std::unique_ptr<SqliteStore> store,
                                                       Logger& logger, MetricsRegistry& metrics);
};

}  // namespace rollcall::coordinator
