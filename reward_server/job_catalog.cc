#include "reward_server/job_catalog.h"

#include <algorithm>
#include <utility>

namespace rollcall {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);
constexpr absl::Duration kDefaultTimeout = absl::Seconds(10);
constexpr int kDefaultRetries = 3;

JobContextOr Failed(FailureKind kind, std::string reason, const Status& status) {
  return {.context = nullptr, .failure = {kind, std::move(reason), Message(status)}};
}

}  // namespace

JobCatalog::JobCatalog(FetchSpec fetch_spec, ScorerEnvironment environment, const Clock& clock,
                       size_t max_jobs)
    : fetch_spec_(std::move(fetch_spec)),
      clock_(clock),
      max_jobs_(max_jobs),
      scorers_(std::move(environment)) {}

std::shared_ptr<JobCatalog::Entry> JobCatalog::GetEntry(const std::string& job_id) {
  MutexLock lock(mu_);
  const auto it = std::find_if(by_use_.begin(), by_use_.end(),
                               [&](const auto& entry) { return entry->job_id == job_id; });
  if (it != by_use_.end()) {
    by_use_.splice(by_use_.begin(), by_use_, it);
  } else {
    by_use_.push_front(std::make_shared<Entry>(job_id));
    if (by_use_.size() > max_jobs_) by_use_.pop_back();
  }
  return by_use_.front();
}

JobContextOr JobCatalog::Get(const std::string& job_id) {
  const std::shared_ptr<Entry> entry = GetEntry(job_id);
  MutexLock lock(entry->mu);
  const bool is_stale = entry->is_loaded && entry->loaded.context == nullptr &&
                        clock_.Now() - entry->failed_at >= kRetryAfter;
  if (!entry->is_loaded || is_stale) {
    entry->loaded = Load(job_id);
    entry->is_loaded = true;
    entry->failed_at = clock_.Now();
  }
  return entry->loaded;
}

void JobCatalog::Drop(const std::string& job_id) {
  MutexLock lock(mu_);
  by_use_.remove_if([&](const auto& entry) { return entry->job_id == job_id; });
}

JobContextOr JobCatalog::Load(const std::string& job_id) {
  const StatusOr<v1::JobSpec> spec = fetch_spec_(job_id);
  if (!spec.ok()) return Failed(FailureKind::kInfrastructure, "job_unknown", spec.status());
  auto context = std::make_shared<JobContext>();
  context->answer_column = spec->data().columns().answer();
  StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = LoadTokenizer(spec->model().path());
  if (!tokenizer.ok()) return Failed(FailureKind::kInfrastructure, "tokenizer", tokenizer.status());
  context->tokenizer = *std::move(tokenizer);
  StatusOr<std::vector<JobScorer>> reward = MakeScorers(spec->reward().scorers());
  if (!reward.ok()) return Failed(FailureKind::kData, "bad_scorer", reward.status());
  context->reward = *std::move(reward);
  context->evaluate = context->reward;
  if (!spec->evaluate().scorers().empty()) {
    StatusOr<std::vector<JobScorer>> evaluate = MakeScorers(spec->evaluate().scorers());
    if (!evaluate.ok()) return Failed(FailureKind::kData, "bad_scorer", evaluate.status());
    context->evaluate = *std::move(evaluate);
  }
  return {.context = std::move(context), .failure = {}};
}

StatusOr<std::vector<JobScorer>> JobCatalog::MakeScorers(
    const google::protobuf::RepeatedPtrField<v1::ScorerSpec>& specs) {
  std::vector<JobScorer> scorers;
  for (const v1::ScorerSpec& spec : specs) {
    JobScorer scorer;
    scorer.name = spec.has_name() ? spec.name() : spec.type();
    scorer.weight = spec.has_weight() ? spec.weight() : 1.0;
    scorer.timeout = spec.has_timeout() ? absl::Seconds(spec.timeout().seconds()) +
                                              absl::Nanoseconds(spec.timeout().nanos())
                                        : kDefaultTimeout;
    scorer.max_retries = spec.has_max_retries() ? spec.max_retries() : kDefaultRetries;
    ROLLCALL_ASSIGN_OR_RETURN(
        scorer.scorer, scorers_.Get(spec.type(), {spec.options().begin(), spec.options().end()}));
    scorers.push_back(std::move(scorer));
  }
  return scorers;
}

}  // namespace rollcall
