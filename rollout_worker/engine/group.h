// The engine's own view of a group: of engine*.cc only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "rollout_worker/engine/engine.h"
#include "rollout_worker/sampler/beam_search.h"
#include "services/base/runtime/random.h"
#include "services/model/law/kept_set.h"

namespace rollcall {

// Bound of prompt and completion together.
int32_t MaxTokens(const GroupRequest& request, const ModelConfig& config);

struct Engine::LiveSequence : Sequence {
  // kUnforked: waits for the leader to compute the prompt, or for a beam. kAway: another engine
  // runs it. kClosed: reported.
  enum class State { kUnforked, kScheduled, kAway, kClosed };
  State state = State::kUnforked;
  Group* group = nullptr;
  int32_t index = 0;  // of the sample, or of the live beam
  CounterRandom random{0};
  SampledTokens sampled;
  KeptSetWriter kept_sets;
  std::optional<GrammarState> grammar;
  int32_t num_streamed = 0;  // of the sampled tokens
  std::unique_ptr<StopWatcher> stop_watcher;
  std::unique_ptr<HeavyHitters> heavy_hitters;  // null: nothing is forgotten
  SequenceTimes times;
  int32_t num_cached = 0;  // prompt tokens found in the prefix cache
};

// A search under way. Its sequences are the live beams; those that no beam is on are kUnforked.
struct Engine::Beams {
  BeamSearch search;
  std::vector<LiveSequence*> live;  // by live beam
  Status status;                    // what went wrong in this step
};

struct Engine::Group {
  GroupRequest request;
  int64_t policy_version = 0;  // of request.model
  int32_t max_tokens = 0;      // prompt and completion
  // Unforked: the first one is the leader and computes the prompt for all.
  std::vector<LiveSequence> sequences;
  std::unique_ptr<Beams> beams;  // null: the sequences are the samples
  bool forked = false;
  size_t num_open = 0;  // samples to be reported
  // Where they are wanted: what the first sequence has read so far, and what was wrong with it.
  PromptScores prompt;
  Status prompt_status;

  bool is_prompt_scored() const {
    return prompt.logprobs.size() + 1 >= request.prompt_token_ids.size();
  }
};

}  // namespace rollcall
