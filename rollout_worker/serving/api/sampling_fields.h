// The fields of a request that say how completions are sampled and what is told of them: those that
// /v1/completions and /v1/chat/completions share, with vLLM's extensions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rollout_worker/sampler/beam_options.h"
#include "rollout_worker/serving/api/field_reader.h"
#include "services/model/decoder/heavy_hitters.h"

namespace rollcall {

// What the text of a completion must look like.
struct OutputConstraint {
  enum class Kind { kNone, kRegex, kJsonSchema, kJsonObject };
  Kind kind = Kind::kNone;
  std::string text;   // the expression, or the schema as JSON
  std::string field;  // where the request says so
};

// Absent values are the model's own defaults, else OpenAI's.
struct SamplingFields {
  std::optional<double> temperature;  // [0, 100]
  std::optional<double> top_p;        // (0, 1]
  std::optional<int32_t> top_k;       // >= 0; 0: all (-1 in the request)
  std::optional<double> min_p;        // [0, 1)
  std::optional<double> repetition_penalty;
  double presence_penalty = 0.0;                       // [-2, 2]
  double frequency_penalty = 0.0;                      // [-2, 2]
  std::vector<std::pair<int32_t, double>> logit_bias;  // by token, [-100, 100]
  std::vector<int32_t> allowed_token_ids;              // empty: all
  std::vector<int32_t> banned_token_ids;               // not a field of HTTP
  OutputConstraint constraint;
  HeavyHitterOptions kv_budget;
  // Search instead of sampling: the best n come out. Over HTTP best_of is the number of beams.
  std::optional<BeamOptions> beam_search;

  int32_t n = 1;
  std::optional<int32_t> max_tokens;
  int32_t min_tokens = 0;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
  std::optional<uint64_t> seed;

  int32_t priority = 0;    // smaller runs first
  std::string user;        // whom the tokens are booked on
  std::string cache_salt;  // prefixes are shared with the same salt only
  bool return_token_ids = false;
  // Log-probabilities under the law that tokens were drawn from, and the policy versions.
  bool return_behavior = false;
  std::optional<int32_t> prompt_logprobs;  // alternatives of each prompt token

  bool is_stream = false;
  bool includes_usage = false;          // a last event with the usage
  bool includes_running_usage = false;  // in every event
};

inline constexpr int32_t kMaxChoices = 128;
// Alternatives of one position.
inline constexpr int32_t kMaxLogprobs = 20;

// Reads them all but `logprobs`, which the two requests spell in different ways.
SamplingFields ReadSamplingFields(FieldReader& reader);

}  // namespace rollcall
