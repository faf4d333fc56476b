#include "rollout_worker/migration/migration_codec.h"

#include <string>
#include <utility>

#include "services/common/sampling/sampling_codec.h"

namespace rollcall {
namespace {

template <typename From, typename To>
void Append(const From& from, To* to) {
  to->Add(from.begin(), from.end());
}

template <typename T, typename From>
std::vector<T> ToVector(const From& from) {
  return {from.begin(), from.end()};
}

}  // namespace

void CommitToProto(const SequenceState& state, v1::MigrationCommit* commit) {
  const GroupRequest& request = state.request;
  Append(request.prompt_token_ids, commit->mutable_prompt_token_ids());
  commit->set_stream_key(request.stream_keys.front());
  v1::SamplingParams& sampling = *commit->mutable_sampling();
  sampling.set_temperature(request.law.temperature);
  sampling.set_top_p(request.law.top_p);
  sampling.set_top_k(request.law.top_k);
  sampling.set_min_p(request.law.min_p);
  sampling.set_max_new_tokens(request.max_new_tokens);
  Append(request.stop_token_ids, sampling.mutable_stop_token_ids());
  const StartedCompletion& started = request.started.front();
  Append(started.token_ids, commit->mutable_token_ids());
  Append(started.behavior_logprobs, commit->mutable_behavior_logprobs());
  Append(started.model_logprobs, commit->mutable_model_logprobs());
  Append(started.policy_versions, commit->mutable_policy_versions());
  commit->set_num_computed(state.num_computed);
  commit->set_priority(request.priority);
  commit->set_tenant(request.tenant);
  commit->set_num_top_logprobs(request.num_top_logprobs);
}

SequenceState CommitFromProto(const v1::MigrationCommit& commit, int64_t policy_version) {
  SequenceState state;
  state.policy_version = policy_version;
  state.num_computed = commit.num_computed();
  GroupRequest& request = state.request;
  request.prompt_token_ids = ToVector<int32_t>(commit.prompt_token_ids());
  request.stream_keys = {commit.stream_key()};
  const v1::SamplingParams& sampling = commit.sampling();
  request.law = LawFromParams(sampling);
  request.max_new_tokens = sampling.max_new_tokens();
  request.stop_token_ids = ToVector<int32_t>(sampling.stop_token_ids());
  request.priority = commit.priority();
  request.tenant = commit.tenant();
  request.num_top_logprobs = commit.num_top_logprobs();
  request.is_streaming = true;
  // The source decides what a switch of weights means for its sample.
  request.is_version_pinned = true;
  request.started = {{.token_ids = ToVector<int32_t>(commit.token_ids()),
                      .behavior_logprobs = ToVector<float>(commit.behavior_logprobs()),
                      .model_logprobs = ToVector<float>(commit.model_logprobs()),
                      .policy_versions = ToVector<int64_t>(commit.policy_versions())}};
  return state;
}

void TokensToProto(const SampledTokens& tokens, v1::MigratedTokens* message) {
  Append(tokens.token_ids, message->mutable_token_ids());
  Append(tokens.behavior_logprobs, message->mutable_behavior_logprobs());
  Append(tokens.model_logprobs, message->mutable_model_logprobs());
  Append(tokens.policy_versions, message->mutable_policy_versions());
  for (const std::vector<TokenLogprob>& alternatives : tokens.top_logprobs) {
    v1::TopLogprobs& top = *message->add_top_logprobs();
    for (const TokenLogprob& alternative : alternatives) {
      v1::TopLogprob& entry = *top.add_top();
      entry.set_token_id(alternative.token);
      entry.set_logprob(alternative.logprob);
    }
  }
}

StatusOr<SampledTokens> TokensFromProto(const v1::MigratedTokens& message) {
  SampledTokens tokens;
  tokens.token_ids = ToVector<int32_t>(message.token_ids());
  tokens.behavior_logprobs = ToVector<float>(message.behavior_logprobs());
  tokens.model_logprobs = ToVector<float>(message.model_logprobs());
  tokens.policy_versions = ToVector<int64_t>(message.policy_versions());
  for (const v1::TopLogprobs& top : message.top_logprobs()) {
    std::vector<TokenLogprob>& alternatives = tokens.top_logprobs.emplace_back();
    for (const v1::TopLogprob& entry : top.top()) {
      alternatives.push_back({entry.token_id(), entry.logprob()});
    }
  }
  const size_t size = tokens.token_ids.size();
  const auto fits = [size](const auto& list) { return list.empty() || list.size() == size; };
  if (tokens.behavior_logprobs.size() != size || tokens.policy_versions.size() != size ||
      !fits(tokens.model_logprobs) || !fits(tokens.top_logprobs)) {
    return InvalidArgument("the destination sent " + std::to_string(size) +
                           " tokens with lists of other lengths");
  }
  return tokens;
}

}  // namespace rollcall
