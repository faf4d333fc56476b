#include "services/coordinator/journal/journal.h"

#include <deque>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "services/base/sync/mutex.h"

namespace rollcall::coordinator {
namespace {

constexpr absl::Duration kRetryInterval = absl::Milliseconds(250);
constexpr absl::Duration kIdleWait = absl::Seconds(1);

class AsyncJournalImpl final : public AsyncJournal {
 public:
  AsyncJournalImpl(const AsyncJournalOptions& options, std::unique_ptr<SqliteStore> writer,
                   std::unique_ptr<SqliteStore> reader, Logger& logger, MetricsRegistry& metrics)
      : options_(options),
        logger_(logger),
        commit_seconds_(metrics.GetHistogram("rollcall_coordinator_journal_commit_seconds",
                                             "Time of one journal transaction.", LatencyBuckets())),
        batch_records_(metrics.GetHistogram(
            "rollcall_coordinator_journal_batch_records", "Records in one journal transaction.",
            {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096})),
        backlog_records_(metrics.GetGauge("rollcall_coordinator_journal_backlog_records",
                                          "Records that wait for the journal.")),
        failures_(metrics.GetCounter("rollcall_coordinator_journal_failures_total",
                                     "Journal transactions that failed and are tried again.")),
        writer_store_(std::move(writer)),
        reader_store_(std::move(reader)) {
    writer_ = std::thread([this] { Write(); });
    reader_ = std::thread([this] { ReadLoop(); });
  }

  ~AsyncJournalImpl() override {
    {
      MutexLock lock(mu_);
      closing_ = true;
      ready_.NotifyAll();
    }
    writer_.join();
    {
      MutexLock lock(read_mu_);
      read_closing_ = true;
      read_ready_.NotifyAll();
    }
    reader_.join();
  }

  void Append(std::vector<Record> records, std::function<void()> done) override {
    MutexLock lock(mu_);
    num_records_ += records.size();
    queue_.push_back({std::move(records), std::move(done)});
    ready_.NotifyOne();
  }

  void Read(std::function<void(SqliteStore&)> fn) override {
    Append({}, [this, fn = std::move(fn)]() mutable {
      MutexLock lock(read_mu_);
      reads_.push_back(std::move(fn));
      read_ready_.NotifyOne();
    });
  }

  bool congested() const override {
    MutexLock lock(mu_);
    return failing_ || num_records_ > options_.congestion_records;
  }

 private:
  struct Entry {
    std::vector<Record> records;
    std::function<void()> done;
  };

  // Takes what is queued, up to one transaction.
  std::deque<Entry> TakeBatch(size_t* num_records) {
    MutexLock lock(mu_);
    while (queue_.empty() && !closing_) ready_.WaitFor(mu_, kIdleWait);
    std::deque<Entry> batch;
    *num_records = 0;
    while (!queue_.empty() && *num_records < options_.max_batch_records) {
      *num_records += queue_.front().records.size();
      batch.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    backlog_records_.Set(static_cast<double>(num_records_));
    num_records_ -= *num_records;
    return batch;
  }
  size_t waiting() const {
    MutexLock lock(mu_);
    return num_records_;
  }

  bool closing() const {
    MutexLock lock(mu_);
    return closing_;
  }

  void Write() {
    while (true) {
      size_t num_records = 0;
      std::deque<Entry> batch = TakeBatch(&num_records);
      if (batch.empty() && closing()) return;
      std::vector<Record> records;
      records.reserve(num_records);
      for (Entry& entry : batch) {
        std::move(entry.records.begin(), entry.records.end(), std::back_inserter(records));
      }
      if (!records.empty() && !Commit(records)) return;
      backlog_records_.Set(static_cast<double>(waiting()));
      for (Entry& entry : batch) {
        if (entry.done) entry.done();
      }
    }
  }

  // False when the process ends while the disk still refuses.
  bool Commit(const std::vector<Record>& records) {
    while (true) {
      const absl::Time start = absl::Now();
      const Status status = writer_store_->Apply(records);
      if (status.ok()) {
        commit_seconds_.Observe(absl::ToDoubleSeconds(absl::Now() - start));
        batch_records_.Observe(static_cast<double>(records.size()));
        MutexLock lock(mu_);
        if (failing_) logger_.Info("the journal accepts records again");
        failing_ = false;
        return true;
      }
      // The records contradict the tables: going on would break what was promised.
      if (status.code() == StatusCode::kDataLoss) CheckFailed("journal", Message(status));
      failures_.Increment();
      MutexLock lock(mu_);
      if (!failing_)
        logger_.Error("the journal cannot be written, trying again: " + Message(status));
      failing_ = true;
      if (closing_) return false;
      ready_.WaitFor(mu_, kRetryInterval);
    }
  }

  void ReadLoop() {
    while (true) {
      std::function<void(SqliteStore&)> fn;
      {
        MutexLock lock(read_mu_);
        while (reads_.empty() && !read_closing_) read_ready_.WaitFor(read_mu_, kIdleWait);
        if (reads_.empty()) return;
        fn = std::move(reads_.front());
        reads_.pop_front();
      }
      fn(*reader_store_);
    }
  }

  const AsyncJournalOptions options_;
  Logger& logger_;
  Histogram& commit_seconds_;
  Histogram& batch_records_;
  Gauge& backlog_records_;
  Counter& failures_;

  mutable Mutex mu_;
  CondVar ready_;
  std::deque<Entry> queue_ ABSL_GUARDED_BY(mu_);
  size_t num_records_ ABSL_GUARDED_BY(mu_) = 0;
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  bool failing_ ABSL_GUARDED_BY(mu_) = false;

  Mutex read_mu_;
  CondVar read_ready_;
  std::deque<std::function<void(SqliteStore&)>> reads_ ABSL_GUARDED_BY(read_mu_);
  bool read_closing_ ABSL_GUARDED_BY(read_mu_) = false;

  // Each used by one thread only.
  std::unique_ptr<SqliteStore> writer_store_;
  std::unique_ptr<SqliteStore> reader_store_;
  std::thread writer_;
  std::thread reader_;
};

}  // namespace

StatusOr<std::unique_ptr<AsyncJournal>> AsyncJournal::Start(const AsyncJournalOptions& options,
                                                            std::unique_ptr<SqliteStore> store,
                                                            Logger& logger,
                                                            MetricsRegistry& metrics) {
  ROLLCALL_ASSIGN_OR_RETURN(auto reader,
                            SqliteStore::Open(options.path, SqliteStore::Access::kReader));
  return std::unique_ptr<AsyncJournal>(std::make_unique<AsyncJournalImpl>(
      options, std::move(store), std::move(reader), logger, metrics));
}

}  // namespace rollcall::coordinator
