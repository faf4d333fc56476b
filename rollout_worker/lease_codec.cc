#include "rollout_worker/lease_codec.h"

#include "services/base/runtime/random.h"
#include "services/common/sampling/sampling_codec.h"

namespace rollcall {
namespace {

void FillKey(const v1::PromptLease& lease, int32_t sample_index, v1::SampleKey* key) {
  key->set_job_id(lease.job_id());
  key->set_iteration(lease.iteration());
  key->set_prompt_id(lease.prompt_id());
  key->set_sample_index(sample_index);
  key->set_purpose(lease.purpose());
}

// One segment per run of tokens of one policy version.
void AddSegments(const SampledTokens& sampled, v1::Trajectory* trajectory) {
  v1::Segment* segment = nullptr;
  for (size_t i = 0; i < sampled.token_ids.size(); ++i) {
    if (segment == nullptr || segment->policy_version() != sampled.policy_versions[i]) {
      segment = trajectory->add_segments();
      segment->set_kind(v1::SEGMENT_KIND_POLICY);
      segment->set_policy_version(sampled.policy_versions[i]);
    }
    segment->add_token_ids(sampled.token_ids[i]);
    segment->add_behavior_logprobs(sampled.behavior_logprobs[i]);
  }
  if (!sampled.kept_sets.empty()) trajectory->mutable_segments(0)->set_kept_sets(sampled.kept_sets);
}

void FillFailure(const WorkFailure& from, v1::Failure* to) {
  to->set_kind(from.kind == WorkFailure::Kind::kData ? v1::Failure::KIND_DATA
                                                     : v1::Failure::KIND_INFRASTRUCTURE);
  to->set_reason(from.reason);
  to->set_message(from.message);
}

}  // namespace

GroupRequest ToGroupRequest(uint64_t group_id, ModelId model, const v1::PromptLease& lease) {
  GroupRequest request;
  request.group_id = group_id;
  request.model = model;
  request.prompt_token_ids.assign(lease.prompt_token_ids().begin(), lease.prompt_token_ids().end());
  for (const int32_t index : lease.sample_indices()) {
    request.stream_keys.push_back(SampleStreamKey(lease.seed(),
                                                  static_cast<uint64_t>(lease.purpose()),
                                                  lease.iteration(), lease.prompt_id(), index));
  }
  const v1::SamplingParams& sampling = lease.sampling();
  request.law = LawFromParams(sampling);
  request.wants_kept_sets =
      lease.purpose() == v1::SAMPLE_PURPOSE_TRAIN && RestrictsTokens(sampling);
  request.heavy_hitters = {.num_heavy = sampling.kv_budget().num_heavy(),
                           .num_recent = sampling.kv_budget().num_recent()};
  request.is_version_pinned = lease.exact_version();
  request.tenant = lease.job_id();
  request.max_new_tokens = sampling.max_new_tokens();
  request.stop_token_ids.assign(sampling.stop_token_ids().begin(), sampling.stop_token_ids().end());
  return request;
}

WorkFailure ToFailure(const Status& status) {
  WorkFailure failure{.message = Message(status)};
  switch (status.code()) {
    case StatusCode::kOutOfRange:
      failure.kind = WorkFailure::Kind::kData;
      failure.reason = "prompt_too_long";
      break;
    case StatusCode::kInvalidArgument:
      failure.kind = WorkFailure::Kind::kData;
      failure.reason = "bad_request";
      break;
    case StatusCode::kDataLoss:
      failure.reason = "non_finite_logits";
      break;
    case StatusCode::kResourceExhausted:
      failure.reason = "out_of_memory";
      break;
    default:
      failure.reason = "engine";
  }
  return failure;
}

v1::SubmitTrajectoriesRequest ToSubmitRequest(const LeasedSamples& lease) {
  v1::SubmitTrajectoriesRequest request;
  request.set_worker_id(lease.worker_id);
  request.set_lease_id(lease.proto.lease_id());
  for (size_t i = 0; i < lease.samples.size(); ++i) {
    const std::optional<CompletedSample>& sample = lease.samples[i];
    const int32_t sample_index = lease.proto.sample_indices(static_cast<int>(i));
    if (!sample || !sample->status.ok()) {
      if (!sample && !lease.failure) continue;
      v1::SampleFailure& failure = *request.add_failures();
      FillKey(lease.proto, sample_index, failure.mutable_key());
      FillFailure(sample ? ToFailure(sample->status) : *lease.failure, failure.mutable_failure());
      continue;
    }
    v1::Trajectory& trajectory = *request.add_trajectories();
    FillKey(lease.proto, sample_index, trajectory.mutable_key());
    *trajectory.mutable_prompt_token_ids() = lease.proto.prompt_token_ids();
    AddSegments(*sample, &trajectory);
    trajectory.set_finish_reason(sample->end == CompletionEnd::kStop ? v1::FINISH_REASON_STOP
                                                                     : v1::FINISH_REASON_LENGTH);
    trajectory.set_seconds(absl::ToDoubleSeconds(lease.finished - lease.received));
    trajectory.set_worker_id(lease.worker_id);
  }
  return request;
}

}  // namespace rollcall
