// What goes into the engine and what comes out of it. Plain data; no torch, no protobuf.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "rollout_worker/kv_cache/prefix_index.h"
#include "rollout_worker/sampler/beam_options.h"
#include "rollout_worker/sampler/sampler.h"
#include "rollout_worker/sampler/stop_watcher.h"
#include "services/base/status/status.h"
#include "services/grammar/token_grammar.h"
#include "services/model/decoder/heavy_hitters.h"

namespace rollcall {

// Consecutive tokens of one completion. The vectors are parallel; those that were not asked for
// are empty.
struct SampledTokens {
  std::vector<int32_t> token_ids;
  // Under the law that the token was really drawn from.
  std::vector<float> behavior_logprobs;
  // Under the whole softmax at temperature 1, without the law.
  std::vector<float> model_logprobs;
  // Mass of what the law kept of its own softmax, (0, 1].
  std::vector<float> kept_masses;
  // What the law kept, as KeptSets codes.
  std::string kept_sets;
  // Version of the weights that gave the token's logits.
  std::vector<int64_t> policy_versions;
  // The most likely tokens, most likely first; GroupRequest::num_top_logprobs each.
  std::vector<std::vector<TokenLogprob>> top_logprobs;
};

// What the model's own softmax (temperature 1, no law) says of the tokens of a prompt but the
// first, under the weights that computed them. The vectors are parallel; all are empty when they
// were not asked for.
struct PromptScores {
  std::vector<float> logprobs;
  // How many tokens of the vocabulary are at least as likely as the prompt's, itself included.
  std::vector<int32_t> ranks;
  // The most likely tokens of each place, most likely first; GroupRequest::num_prompt_top_logprobs
  // each, empty when that is 0.
  std::vector<std::vector<TokenLogprob>> top_logprobs;
};

// A completion that began elsewhere (another worker, an earlier version, before a restart).
struct StartedCompletion {
  std::vector<int32_t> token_ids;
  std::vector<float> behavior_logprobs;
  std::vector<float> model_logprobs;
  std::vector<float> kept_masses;
  std::string kept_sets;
  std::vector<int64_t> policy_versions;
};

struct GroupRequest {
  uint64_t group_id = 0;  // unique among the groups of this engine
  ModelId model = 0;
  std::vector<int32_t> prompt_token_ids;
  std::vector<uint64_t> stream_keys;  // of SampleStreamKey, one per sample
  SamplingLaw law;
  // Of the whole completion; null: any text. Made for the vocabulary and the stop tokens of this
  // request. Without stop tokens a completion ends where its text is whole and nothing can follow.
  std::shared_ptr<const TokenGrammar> grammar;
  int32_t max_new_tokens = 1;
  // The first of these that is sampled ends the completion and belongs to it.
  std::vector<int32_t> stop_token_ids;
  // Makes the watcher of each sample; null: only stop_token_ids end a completion early.
  std::function<std::unique_ptr<StopWatcher>()> make_stop_watcher;
  // Smaller runs first; among equals the older group does.
  int32_t priority = 0;
  // Account that fair scheduling books the tokens on.
  std::string tenant;
  // Steps report the tokens of this group as they are sampled.
  bool is_streaming = false;
  int32_t num_top_logprobs = 0;  // [0, kMaxTopLogprobs]
  bool wants_model_logprobs = false;
  // Fill kept_sets, and kept_masses. A completion whose sets take more than kMaxKeptSetBytes fails
  // with kResourceExhausted.
  bool wants_kept_sets = false;
  // PromptScores are wanted: the prompt is computed without the prefix cache.
  bool wants_prompt_logprobs = false;
  int32_t num_prompt_top_logprobs = 0;  // [0, kMaxTopLogprobs]; more than 0 needs the former
  // SwitchGroups leaves the group with its model.
  bool is_version_pinned = false;
  // On: every sample keeps only so many tokens in KV memory, and its law is no longer that of the
  // whole context. Needs a model without sliding windows.
  HeavyHitterOptions heavy_hitters;
  // On: the samples are the best sequences of a search, best first, one per stream key; nothing is
  // drawn. Their behaviour log-probabilities are the model's. The search has the law of the model
  // itself and no watcher, stays with its weights and its worker, and tells nothing before its end.
  std::optional<BeamOptions> beam_search;
  // Empty, or one per sample: where the completions go on. Their tokens count as sampled ones.
  std::vector<StartedCompletion> started;
};

inline constexpr int32_t kMaxTopLogprobs = 20;
inline constexpr size_t kMaxBeamStopTokens = 1024;

enum class CompletionEnd { kStop, kLength };

// What running groups do when newer weights come.
//   kDrain      they end under the weights that they began with
//   kRecompute  they go on under the new ones; their keys and values are computed again
//   kKeep       they go on under the new ones over the keys and values that they have
enum class UpdateMode { kDrain, kRecompute, kKeep };

// Of the engine's clock. Infinite past: it did not come to that.
struct SequenceTimes {
  absl::Time queued = absl::InfinitePast();     // the engine took the group
  absl::Time scheduled = absl::InfinitePast();  // begin of the first step that computed for it
  absl::Time first_token = absl::InfinitePast();
  absl::Time last_token = absl::InfinitePast();
};

// Tokens of a streaming group that one step sampled.
struct StreamedTokens : SampledTokens {
  uint64_t group_id = 0;
  int32_t index = 0;  // of the stream key
  int32_t first = 0;  // place of token_ids[0] in the completion
};

struct CompletedSample : SampledTokens {
  uint64_t group_id = 0;
  int32_t index = 0;  // of the stream key
  // Not OK: the sample could not be made and the rest is empty.
  Status status;
  CompletionEnd end = CompletionEnd::kLength;
  // Version of the last token; the one that the group asked for before there is a token.
  int64_t policy_version = 0;
  SequenceTimes times;
  // Prompt tokens that were found in the prefix cache, of the first sample of a group.
  int32_t num_cached_prompt_tokens = 0;
  PromptScores prompt;  // of the first sample of a group that wants them
  // Of a beam search: sum of the log-probabilities, with the length penalty.
  std::optional<double> beam_score;
};

// What happened in one step.
struct StepResult {
  std::vector<StreamedTokens> streamed;
  std::vector<CompletedSample> completed;  // streamed tokens included
};

}  // namespace rollcall
