#include "services/coordinator/journal/sqlite_store.h"

#include <cstring>
#include <type_traits>
#include <utility>

#include <sqlite3.h>

#include "services/base/status/status.h"

namespace rollcall::coordinator {
namespace {

constexpr int kSchemaVersion = 1;

constexpr const char* kSchema = R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE jobs(
  job INTEGER PRIMARY KEY, request_id TEXT NOT NULL, spec BLOB NOT NULL, source TEXT NOT NULL,
  run_dir TEXT NOT NULL, data_hash TEXT NOT NULL, evaluate_hash TEXT NOT NULL,
  state INTEGER NOT NULL DEFAULT 1, status BLOB);
CREATE TABLE samples(
  job INTEGER NOT NULL, purpose INTEGER NOT NULL, iteration INTEGER NOT NULL,
  prompt_id INTEGER NOT NULL, sample_index INTEGER NOT NULL, state INTEGER NOT NULL,
  step INTEGER NOT NULL DEFAULT 0, preference_rank INTEGER NOT NULL DEFAULT -1, reason TEXT,
  PRIMARY KEY(job, purpose, iteration, prompt_id, sample_index)) WITHOUT ROWID;
CREATE TABLE trajectories(
  job INTEGER NOT NULL, purpose INTEGER NOT NULL, iteration INTEGER NOT NULL,
  prompt_id INTEGER NOT NULL, sample_index INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY(job, purpose, iteration, prompt_id, sample_index));
CREATE TABLE scores(
  job INTEGER NOT NULL, purpose INTEGER NOT NULL, iteration INTEGER NOT NULL,
  prompt_id INTEGER NOT NULL, sample_index INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY(job, purpose, iteration, prompt_id, sample_index));
CREATE TABLE batches(
  job INTEGER NOT NULL, step INTEGER NOT NULL, num_samples INTEGER NOT NULL, time REAL NOT NULL,
  PRIMARY KEY(job, step)) WITHOUT ROWID;
CREATE TABLE steps(
  job INTEGER NOT NULL, step INTEGER NOT NULL, epoch INTEGER NOT NULL,
  num_samples INTEGER NOT NULL, optimizer_updates INTEGER NOT NULL, time REAL NOT NULL,
  metrics BLOB NOT NULL, PRIMARY KEY(job, step)) WITHOUT ROWID;
CREATE TABLE replays(
  job INTEGER NOT NULL, step INTEGER NOT NULL, epoch INTEGER NOT NULL, time REAL NOT NULL);
CREATE TABLE checkpoints(
  job INTEGER NOT NULL, step INTEGER NOT NULL, directory TEXT NOT NULL,
  PRIMARY KEY(job, step)) WITHOUT ROWID;
CREATE TABLE evaluations(
  job INTEGER NOT NULL, policy_version INTEGER NOT NULL, result BLOB NOT NULL,
  time REAL NOT NULL, PRIMARY KEY(job, policy_version)) WITHOUT ROWID;
CREATE TABLE receipts(
  job INTEGER NOT NULL, worker TEXT NOT NULL, policy_version INTEGER NOT NULL,
  hash TEXT NOT NULL, PRIMARY KEY(job, worker, policy_version)) WITHOUT ROWID;
)sql";

// Versions of receipts that are kept behind the newest of a worker.
constexpr int64_t kReceiptsKept = 8;

// Null for NULL; false when the bytes are no such message.
template <typename Message>
bool ParseColumn(sqlite3_stmt* statement, int column, std::shared_ptr<const Message>* out) {
  out->reset();
  if (sqlite3_column_type(statement, column) == SQLITE_NULL) return true;
  const void* data = sqlite3_column_blob(statement, column);
  const int size = sqlite3_column_bytes(statement, column);
  auto message = std::make_shared<Message>();
  if (size > 0 && !message->ParseFromArray(data, size)) return false;
  *out = std::move(message);
  return true;
}

std::string Place(const SampleId& id) {
  return JobId(id.job) + " iteration " + std::to_string(id.iteration) + " prompt " +
         std::to_string(id.prompt_id) + " index " + std::to_string(id.sample_index);
}

std::string TextColumn(sqlite3_stmt* statement, int column) {
  const unsigned char* text = sqlite3_column_text(statement, column);
  if (text == nullptr) return {};
  return {reinterpret_cast<const char*>(text),
          static_cast<size_t>(sqlite3_column_bytes(statement, column))};
}

}  // namespace

// One use of a cached prepared statement: binds in order, runs, resets at the end.
class SqliteStore::Statement {
 public:
  Statement(SqliteStore& store, const char* sql) : store_(store) {
    auto prepared = store.Prepare(sql);
    if (prepared.ok()) {
      statement_ = *prepared;
    } else {
      status_ = prepared.status();
    }
  }
  ~Statement() {
    if (statement_ != nullptr) {
      sqlite3_reset(statement_);
      sqlite3_clear_bindings(statement_);
    }
  }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Int(int64_t value) {
    if (statement_ != nullptr) sqlite3_bind_int64(statement_, ++bound_, value);
    return *this;
  }
  Statement& Double(double value) {
    if (statement_ != nullptr) sqlite3_bind_double(statement_, ++bound_, value);
    return *this;
  }
  // The bytes must live until the statement ran.
  Statement& Text(const std::string& value) {
    if (statement_ != nullptr) {
      sqlite3_bind_text64(statement_, ++bound_, value.data(), value.size(), SQLITE_STATIC,
                          SQLITE_UTF8);
    }
    return *this;
  }
  Statement& Blob(const std::string& value) {
    if (statement_ != nullptr) {
      sqlite3_bind_blob64(statement_, ++bound_, value.data(), value.size(), SQLITE_STATIC);
    }
    return *this;
  }
  Statement& Id(const SampleId& id) {
    return Int(id.job).Int(id.purpose).Int(id.iteration).Int(id.prompt_id).Int(id.sample_index);
  }

  // Runs a statement without rows.
  Status Run() {
    if (!status_.ok()) return status_;
    if (sqlite3_step(statement_) != SQLITE_DONE) return store_.Error("cannot write");
    return OkStatus();
  }
  int64_t changes() const { return sqlite3_changes64(store_.db_); }

  // The next row; false at the end or on an error, which status() tells.
  bool Next() {
    if (!status_.ok()) return false;
    const int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) status_ = store_.Error("cannot read");
    return false;
  }
  const Status& status() const { return status_; }
  sqlite3_stmt* row() const { return statement_; }
  int64_t IntAt(int column) const { return sqlite3_column_int64(statement_, column); }

 private:
  SqliteStore& store_;
  sqlite3_stmt* statement_ = nullptr;
  Status status_;
  int bound_ = 0;
};

StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& path, Access access) {
  std::unique_ptr<SqliteStore> store(new SqliteStore);
  store->path_ = path;
  const int flags =
      access == Access::kOwner ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  if (sqlite3_open_v2(path.c_str(), &store->db_, flags | SQLITE_OPEN_NOMUTEX, nullptr) !=
      SQLITE_OK) {
    return Unavailable(Message(store->Error("cannot open")));
  }
  sqlite3_busy_timeout(store->db_, 5000);
  if (access == Access::kReader) {
    ROLLCALL_RETURN_IF_ERROR(store->Execute("PRAGMA query_only=1"));
    return store;
  }
  // Before anything is written: the file may be somebody else's.
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t version, store->Number("PRAGMA user_version"));
  ROLLCALL_ASSIGN_OR_RETURN(const int64_t num_tables,
                            store->Number("SELECT count(*) FROM sqlite_master"));
  if (version == 0 && num_tables > 0) {
    return DataLoss(path + ": a database, but not a journal");
  }
  if (version != 0 && version != kSchemaVersion) {
    return DataLoss(path + ": the journal has schema version " + std::to_string(version) +
                    ", this coordinator reads version " + std::to_string(kSchemaVersion));
  }
  ROLLCALL_RETURN_IF_ERROR(store->Execute("PRAGMA journal_mode=WAL"));
  ROLLCALL_RETURN_IF_ERROR(store->Execute("PRAGMA synchronous=NORMAL"));
  ROLLCALL_RETURN_IF_ERROR(store->Execute("PRAGMA wal_autocheckpoint=4000"));
  ROLLCALL_RETURN_IF_ERROR(store->Execute("PRAGMA cache_size=-32768"));
  if (version == 0) {
    ROLLCALL_RETURN_IF_ERROR(store->Execute("BEGIN IMMEDIATE"));
    Status created = store->Execute(kSchema);
    if (created.ok()) created = store->Execute("PRAGMA user_version=1");
    if (created.ok()) created = store->Execute("COMMIT");
    if (!created.ok()) {
      (void)store->Execute("ROLLBACK");
      return created;
    }
  }
  return store;
}

StatusOr<int64_t> SqliteStore::Number(const char* sql) {
  Statement statement(*this, sql);
  const int64_t number = statement.Next() ? statement.IntAt(0) : 0;
  ROLLCALL_RETURN_IF_ERROR(statement.status());
  return number;
}

SqliteStore::~SqliteStore() {
  for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(db_);
}

Status SqliteStore::Error(const char* what) const {
  const int code = sqlite3_extended_errcode(db_);
  std::string message = path_ + ": " + what + ": " + sqlite3_errmsg(db_);
  if (code == SQLITE_IOERR_WRITE) message += " while writing";
  if (code == SQLITE_IOERR_FSYNC) message += " while syncing";
  switch (code & 0xff) {
    case SQLITE_FULL:
    case SQLITE_IOERR:
      return ResourceExhausted(message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN:
      return Unavailable(message);
    case SQLITE_CONSTRAINT:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return DataLoss(message);
    default:
      return Internal(message);
  }
}

Status SqliteStore::Execute(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return Error("cannot run");
  return OkStatus();
}

StatusOr<sqlite3_stmt*> SqliteStore::Prepare(const char* sql) {
  // Statements are literals of this file, so the address names them.
  for (auto& [known, statement] : statements_) {
    if (known == sql) return statement;
  }
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr) !=
      SQLITE_OK) {
    return Error("cannot prepare");
  }
  statements_.emplace_back(sql, statement);
  return statement;
}

Status SqliteStore::Apply(std::span<const Record> records) {
  ROLLCALL_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  Status status;
  for (const Record& record : records) {
    status = std::visit([this](const auto& one) { return ApplyOne(one); }, record);
    if (!status.ok()) break;
  }
  if (status.ok()) status = Execute("COMMIT");
  if (!status.ok()) (void)Execute("ROLLBACK");
  return status;
}

StatusOr<int64_t> SqliteStore::NextIncarnation() {
  ROLLCALL_RETURN_IF_ERROR(Statement(*this,
                                     "INSERT INTO meta VALUES('incarnation', 1) "
                                     "ON CONFLICT(key) DO UPDATE SET value = value + 1")
                               .Run());
  Statement statement(*this, "SELECT value FROM meta WHERE key = 'incarnation'");
  int64_t incarnation = 0;
  if (statement.Next()) incarnation = statement.IntAt(0);
  ROLLCALL_RETURN_IF_ERROR(statement.status());
  return incarnation;
}

Status SqliteStore::ApplyOne(const JobRecord& record) {
  const std::string spec = record.spec->SerializeAsString();
  return Statement(*this,
                   "INSERT INTO jobs(job, request_id, spec, source, run_dir, data_hash, "
                   "evaluate_hash) VALUES(?, ?, ?, ?, ?, ?, ?)")
      .Int(record.job)
      .Text(record.request_id)
      .Blob(spec)
      .Text(record.source_yaml)
      .Text(record.run_dir)
      .Text(record.data_hash)
      .Text(record.evaluate_hash)
      .Run();
}

Status SqliteStore::ApplyOne(const JobStatusRecord& record) {
  record.status.SerializeToString(&scratch_);
  return Statement(*this, "UPDATE jobs SET state = ?, status = ? WHERE job = ?")
      .Int(record.status.state())
      .Blob(scratch_)
      .Int(record.job)
      .Run();
}

Status SqliteStore::ApplyOne(const TrajectoryRecord& record) {
  ROLLCALL_RETURN_IF_ERROR(Statement(*this,
                                     "INSERT INTO samples(job, purpose, iteration, prompt_id, "
                                     "sample_index, state) VALUES(?, ?, ?, ?, ?, ?)")
                               .Id(record.id)
                               .Int(v1::SAMPLE_STATE_GENERATED)
                               .Run());
  record.trajectory->SerializeToString(&scratch_);
  return Statement(*this, "INSERT INTO trajectories VALUES(?, ?, ?, ?, ?, ?)")
      .Id(record.id)
      .Blob(scratch_)
      .Run();
}

Status SqliteStore::ApplyOne(const ScoreRecord& record) {
  const bool failed = record.score->has_failure();
  const int state = failed ? v1::SAMPLE_STATE_FAILED : v1::SAMPLE_STATE_SCORED;
  const std::string reason = failed ? record.score->failure().reason() : std::string();
  Statement update(*this,
                   "INSERT INTO samples(job, purpose, iteration, prompt_id, sample_index, state, "
                   "reason) VALUES(?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                   "state = excluded.state, reason = excluded.reason WHERE state = 3");
  ROLLCALL_RETURN_IF_ERROR(update.Id(record.id).Int(state).Text(reason).Run());
  if (update.changes() != 1) return DataLoss(path_ + ": a score for a sample that is not awaited");
  record.score->SerializeToString(&scratch_);
  return Statement(*this, "INSERT INTO scores VALUES(?, ?, ?, ?, ?, ?)")
      .Id(record.id)
      .Blob(scratch_)
      .Run();
}

Status SqliteStore::ApplyOne(const ExpireRecord& record) {
  Statement drop(*this,
                 "DELETE FROM samples WHERE job = ? AND purpose = ? AND iteration = ? AND "
                 "prompt_id = ? AND sample_index = ? AND state < 6");
  ROLLCALL_RETURN_IF_ERROR(drop.Id(record.id).Run());
  if (drop.changes() != 1) return DataLoss(path_ + ": a batched sample cannot expire");
  ROLLCALL_RETURN_IF_ERROR(
      Statement(*this,
                "DELETE FROM trajectories WHERE job = ? AND purpose = ? AND iteration = ? AND "
                "prompt_id = ? AND sample_index = ?")
          .Id(record.id)
          .Run());
  return Statement(*this,
                   "DELETE FROM scores WHERE job = ? AND purpose = ? AND iteration = ? AND "
                   "prompt_id = ? AND sample_index = ?")
      .Id(record.id)
      .Run();
}

Status SqliteStore::ApplyOne(const DatasetRecord& record) {
  for (const auto& group : record.groups) {
    for (const v1::Experience& experience : group->experiences()) {
      const SampleId id = FromKey(experience.trajectory().key());
      ROLLCALL_RETURN_IF_ERROR(Statement(*this,
                                         "INSERT INTO samples(job, purpose, iteration, prompt_id, "
                                         "sample_index, state, preference_rank) "
                                         "VALUES(?, ?, ?, ?, ?, ?, ?)")
                                   .Id(id)
                                   .Int(v1::SAMPLE_STATE_SCORED)
                                   .Int(experience.preference_rank())
                                   .Run());
      experience.trajectory().SerializeToString(&scratch_);
      ROLLCALL_RETURN_IF_ERROR(Statement(*this, "INSERT INTO trajectories VALUES(?, ?, ?, ?, ?, ?)")
                                   .Id(id)
                                   .Blob(scratch_)
                                   .Run());
    }
  }
  return OkStatus();
}

Status SqliteStore::ApplyOne(const BatchRecord& record) {
  ROLLCALL_RETURN_IF_ERROR(Statement(*this, "INSERT INTO batches VALUES(?, ?, ?, ?)")
                               .Int(record.job)
                               .Int(record.step)
                               .Int(record.num_samples)
                               .Double(UnixSeconds(record.time))
                               .Run());
  Statement take(*this,
                 "UPDATE samples SET state = 6, step = ? WHERE job = ? AND purpose = 1 AND "
                 "iteration = ? AND state = 5");
  ROLLCALL_RETURN_IF_ERROR(take.Int(record.step).Int(record.job).Int(record.step - 1).Run());
  if (take.changes() != record.num_samples) {
    return DataLoss(path_ + ": batch " + std::to_string(record.step) + " of " + JobId(record.job) +
                    " has " + std::to_string(record.num_samples) + " samples, the journal has " +
                    std::to_string(take.changes()));
  }
  return OkStatus();
}

Status SqliteStore::ApplyOne(const StepRecord& record) {
  v1::StepEvent event;
  event.set_step(record.step);
  *event.mutable_time() = ToProto(record.time);
  event.mutable_metrics()->insert(record.metrics.begin(), record.metrics.end());
  event.SerializeToString(&scratch_);
  ROLLCALL_RETURN_IF_ERROR(Statement(*this, "INSERT INTO steps VALUES(?, ?, ?, ?, ?, ?, ?)")
                               .Int(record.job)
                               .Int(record.step)
                               .Int(record.epoch)
                               .Int(record.num_samples)
                               .Int(record.optimizer_updates)
                               .Double(UnixSeconds(record.time))
                               .Blob(scratch_)
                               .Run());
  Statement consume(*this,
                    "UPDATE samples SET state = 7 WHERE job = ? AND purpose = 1 AND "
                    "iteration = ? AND state = 6 AND step = ?");
  ROLLCALL_RETURN_IF_ERROR(consume.Int(record.job).Int(record.step - 1).Int(record.step).Run());
  if (consume.changes() != record.num_samples) {
    return DataLoss(path_ + ": step " + std::to_string(record.step) + " of " + JobId(record.job) +
                    " consumes " + std::to_string(record.num_samples) +
                    " samples, the journal has " + std::to_string(consume.changes()));
  }
  return OkStatus();
}

Status SqliteStore::ApplyOne(const ReplayRecord& record) {
  return Statement(*this, "INSERT INTO replays VALUES(?, ?, ?, ?)")
      .Int(record.job)
      .Int(record.step)
      .Int(record.epoch)
      .Double(UnixSeconds(record.time))
      .Run();
}

Status SqliteStore::ApplyOne(const CheckpointRecord& record) {
  return Statement(*this, "INSERT OR REPLACE INTO checkpoints VALUES(?, ?, ?)")
      .Int(record.job)
      .Int(record.step)
      .Text(record.directory)
      .Run();
}

Status SqliteStore::ApplyOne(const EvaluationRecord& record) {
  record.result.SerializeToString(&scratch_);
  return Statement(*this, "INSERT INTO evaluations VALUES(?, ?, ?, ?)")
      .Int(record.job)
      .Int(record.result.policy_version())
      .Blob(scratch_)
      .Double(UnixSeconds(record.time))
      .Run();
}

Status SqliteStore::ApplyOne(const ReceiptRecord& record) {
  ROLLCALL_RETURN_IF_ERROR(Statement(*this, "INSERT OR REPLACE INTO receipts VALUES(?, ?, ?, ?)")
                               .Int(record.job)
                               .Text(record.worker_name)
                               .Int(record.policy_version)
                               .Text(record.hash)
                               .Run());
  return Statement(*this,
                   "DELETE FROM receipts WHERE job = ? AND worker = ? AND policy_version < ?")
      .Int(record.job)
      .Text(record.worker_name)
      .Int(record.policy_version - kReceiptsKept)
      .Run();
}

StatusOr<std::vector<StoredJob>> SqliteStore::LoadJobs() {
  std::vector<StoredJob> jobs;
  Statement statement(*this,
                      "SELECT job, request_id, spec, source, run_dir, data_hash, evaluate_hash, "
                      "status FROM jobs ORDER BY job");
  while (statement.Next()) {
    StoredJob& job = jobs.emplace_back();
    job.record.job = statement.IntAt(0);
    job.record.request_id = TextColumn(statement.row(), 1);
    const bool has_spec = ParseColumn(statement.row(), 2, &job.record.spec);
    job.record.source_yaml = TextColumn(statement.row(), 3);
    job.record.run_dir = TextColumn(statement.row(), 4);
    job.record.data_hash = TextColumn(statement.row(), 5);
    job.record.evaluate_hash = TextColumn(statement.row(), 6);
    if (!has_spec || job.record.spec == nullptr) {
      return DataLoss(path_ + ": the spec of " + JobId(job.record.job) + " does not parse");
    }
    std::shared_ptr<const v1::JobStatus> status;
    if (!ParseColumn(statement.row(), 7, &status)) {
      return DataLoss(path_ + ": the status of " + JobId(job.record.job) + " does not parse");
    }
    if (status != nullptr) job.status = *status;
  }
  ROLLCALL_RETURN_IF_ERROR(statement.status());
  return jobs;
}

StatusOr<std::vector<StoredSample>> SqliteStore::LoadSamples(const SampleQuery& query) {
  std::vector<StoredSample> samples;
  Statement statement(
      *this,
      "SELECT s.iteration, s.prompt_id, s.sample_index, s.state, s.step, s.preference_rank, "
      "t.data, c.data FROM samples s "
      "LEFT JOIN trajectories t USING(job, purpose, iteration, prompt_id, sample_index) "
      "LEFT JOIN scores c USING(job, purpose, iteration, prompt_id, sample_index) "
      "WHERE s.job = ? AND s.purpose = ? AND s.iteration BETWEEN ? AND ? AND "
      "s.prompt_id BETWEEN ? AND ? "
      "ORDER BY s.iteration, s.prompt_id, s.sample_index LIMIT ?");
  statement.Int(query.job)
      .Int(query.purpose)
      .Int(query.min_iteration)
      .Int(query.max_iteration)
      .Int(query.prompt_id.value_or(0))
      .Int(query.prompt_id.value_or(INT64_MAX))
      .Int(query.limit);
  while (statement.Next()) {
    StoredSample& sample = samples.emplace_back();
    sample.id = {query.job, query.purpose, statement.IntAt(0), statement.IntAt(1),
                 static_cast<int32_t>(statement.IntAt(2))};
    sample.state = static_cast<v1::SampleState>(statement.IntAt(3));
    sample.step = statement.IntAt(4);
    sample.preference_rank = static_cast<int32_t>(statement.IntAt(5));
    if (!ParseColumn(statement.row(), 6, &sample.trajectory)) {
      return DataLoss(path_ + ": the trajectory of " + Place(sample.id) + " does not parse");
    }
    if (!ParseColumn(statement.row(), 7, &sample.score)) {
      return DataLoss(path_ + ": the score of " + Place(sample.id) + " does not parse");
    }
  }
  ROLLCALL_RETURN_IF_ERROR(statement.status());
  return samples;
}

StatusOr<std::vector<StepRecord>> SqliteStore::LoadSteps(JobNumber job, int64_t from_step,
                                                         int64_t limit) {
  std::vector<StepRecord> steps;
  Statement statement(*this,
                      "SELECT step, epoch, num_samples, optimizer_updates, metrics FROM steps "
                      "WHERE job = ? AND step >= ? ORDER BY step LIMIT ?");
  statement.Int(job).Int(from_step).Int(limit);
  while (statement.Next()) {
    StepRecord& step = steps.emplace_back();
    step.job = job;
    step.step = statement.IntAt(0);
    step.epoch = statement.IntAt(1);
    step.num_samples = statement.IntAt(2);
    step.optimizer_updates = static_cast<int32_t>(statement.IntAt(3));
    std::shared_ptr<const v1::StepEvent> event;
    if (!ParseColumn(statement.row(), 4, &event) || event == nullptr) {
      return DataLoss(path_ + ": the metrics of " + JobId(job) + " step " +
                      std::to_string(step.step) + " do not parse");
    }
    step.time = FromProto(event->time());
    step.metrics.insert(event->metrics().begin(), event->metrics().end());
  }
  ROLLCALL_RETURN_IF_ERROR(statement.status());
  return steps;
}

StatusOr<std::vector<std::pair<int64_t, int64_t>>> SqliteStore::LoadBatches(JobNumber job,
                                                                            int64_t from_step) {
  std::vector<std::pair<int64_t, int64_t>> batches;
  Statement statement(
      *this, "SELECT step, num_samples FROM batches WHERE job = ? AND step >= ? ORDER BY step");
  statement.Int(job).Int(from_step);
  while (statement.Next()) batches.emplace_back(statement.IntAt(0), statement.IntAt(1));
  ROLLCALL_RETURN_IF_ERROR(statement.status());
  return batches;
}

StatusOr<StoredCheckpoint> SqliteStore::LastCheckpoint(JobNumber job) {
  Statement statement(
      *this, "SELECT step, directory FROM checkpoints WHERE job = ? ORDER BY step DESC LIMIT 1");
  statement.Int(job);
  StoredCheckpoint checkpoint;
  if (statement.Next()) {
    checkpoint.step = statement.IntAt(0);
    checkpoint.directory = TextColumn(statement.row(), 1);
  }
  ROLLCALL_RETURN_IF_ERROR(statement.status());
  return checkpoint;
}

StatusOr<std::vector<StoredEvaluation>> SqliteStore::LoadEvaluations(JobNumber job) {
  std::vector<StoredEvaluation> evaluations;
  Statement statement(*this,
                      "SELECT result, time FROM evaluations WHERE job = ? ORDER BY policy_version");
  statement.Int(job);
  while (statement.Next()) {
    StoredEvaluation& evaluation = evaluations.emplace_back();
    std::shared_ptr<const v1::EvaluationResult> result;
    if (!ParseColumn(statement.row(), 0, &result) || result == nullptr) {
      return DataLoss(path_ + ": an evaluation of " + JobId(job) + " does not parse");
    }
    evaluation.result = *result;
    evaluation.time =
        absl::FromUnixMicros(static_cast<int64_t>(sqlite3_column_double(statement.row(), 1) * 1e6));
  }
  ROLLCALL_RETURN_IF_ERROR(statement.status());
  return evaluations;
}

StatusOr<std::vector<StoredReceipt>> SqliteStore::LoadReceipts(JobNumber job) {
  std::vector<StoredReceipt> receipts;
  Statement statement(*this,
                      "SELECT worker, policy_version, hash FROM receipts WHERE job = ? "
                      "ORDER BY worker, policy_version");
  statement.Int(job);
  while (statement.Next()) {
    StoredReceipt& receipt = receipts.emplace_back();
    receipt.worker_name = TextColumn(statement.row(), 0);
    receipt.policy_version = statement.IntAt(1);
    receipt.hash = TextColumn(statement.row(), 2);
  }
  ROLLCALL_RETURN_IF_ERROR(statement.status());
  return receipts;
}

StatusOr<int64_t> SqliteStore::CountSamples(JobNumber job, v1::SampleState state) {
  Statement statement(*this,
                      "SELECT count(*) FROM samples WHERE job = ? AND purpose = 1 AND state = ?");
  statement.Int(job).Int(state);
  int64_t count = 0;
  if (statement.Next()) count = statement.IntAt(0);
  ROLLCALL_RETURN_IF_ERROR(statement.status());
  return count;
}

}  // namespace rollcall::coordinator
