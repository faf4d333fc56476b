#include "rollout_worker/serving/group_request.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "rollout_worker/sampler/beam_search.h"
#include "services/base/runtime/random.h"
#include "services/model/decoder/kv_budget.h"

namespace rollcall {
namespace {

static_assert(kMaxLogprobs <= kMaxTopLogprobs);

// Apart from the purposes of jobs, so that no random stream is used for both.
constexpr uint64_t kServingPurpose = 0x73657276;

// What the engine has no means for must not be ignored in silence.
std::optional<ApiError> FindUnsupported(const SamplingFields& fields) {
  const auto refuse = [](const char* field) {
    return BadField(field, fmt::format("'{}' is not supported by this engine", field));
  };
  if (!fields.cache_salt.empty()) return refuse("cache_salt");
  return std::nullopt;
}

// The first setting that a search has no use for.
const char* FindUnsearchable(const SamplingFields& fields, const GroupRequestOptions& options) {
  const double temperature = fields.temperature.value_or(1);
  const std::pair<bool, const char*> settings[] = {
      // 0 is how some say that nothing is drawn.
      {temperature != 1 && temperature != 0, "temperature"},
      {fields.top_p.value_or(1) != 1, "top_p"},
      {fields.top_k.value_or(0) != 0, "top_k"},
      {fields.min_p.value_or(0) != 0, "min_p"},
      {fields.repetition_penalty.value_or(1) != 1, "repetition_penalty"},
      {fields.presence_penalty != 0, "presence_penalty"},
      {fields.frequency_penalty != 0, "frequency_penalty"},
      {!fields.logit_bias.empty(), "logit_bias"},
      {!fields.allowed_token_ids.empty(), "allowed_token_ids"},
      {!fields.banned_token_ids.empty(), "banned_token_ids"},
      {fields.min_tokens > 0, "min_tokens"},
      {fields.constraint.kind != OutputConstraint::Kind::kNone, fields.constraint.field.c_str()},
      {!fields.stop.empty(), "stop"},
      {fields.is_stream, "stream"},
      {fields.kv_budget.is_on(), "kv_budget"},
      {options.num_top_logprobs > 0, "logprobs"}};
  for (const auto& [is_set, name] : settings) {
    if (is_set) return name;
  }
  return nullptr;
}

std::optional<ApiError> SetBeamSearch(const SamplingFields& fields,
                                      const GroupRequestOptions& options, GroupRequest* request) {
  if (!fields.beam_search) return std::nullopt;
  if (const char* name = FindUnsearchable(fields, options)) {
    return BadField(name, fmt::format("a beam search has no '{}'", name));
  }
  if (const Status checked = CheckBeamOptions(*fields.beam_search); !checked.ok()) {
    return BadField("use_beam_search", Message(checked));
  }
  // Not the settings that the model would be sampled with.
  request->law = {};
  request->beam_search = fields.beam_search;
  return std::nullopt;
}

SamplingLaw MakeLaw(const GenerationDefaults& defaults, const SamplingFields& fields) {
  const auto pick = [](const auto& asked, const auto& known, auto otherwise) {
    return asked ? *asked : known.value_or(otherwise);
  };
  SamplingLaw law;
  law.temperature = pick(fields.temperature, defaults.temperature, 1.0);
  law.top_p = pick(fields.top_p, defaults.top_p, 1.0);
  law.top_k = pick(fields.top_k, defaults.top_k, 0);
  law.min_p = pick(fields.min_p, defaults.min_p, 0.0);
  law.repetition_penalty = pick(fields.repetition_penalty, defaults.repetition_penalty, 1.0);
  law.presence_penalty = fields.presence_penalty;
  law.frequency_penalty = fields.frequency_penalty;
  for (const auto& [token, bias] : fields.logit_bias) {
    law.logit_bias.push_back({token, static_cast<float>(bias)});
  }
  law.allowed_token_ids = fields.allowed_token_ids;
  law.banned_token_ids = fields.banned_token_ids;
  law.min_new_tokens = fields.min_tokens;
  // Dividing by less would leave nothing but the most likely token.
  if (law.temperature < 1e-6) law.temperature = 0;
  return law;
}

std::optional<ApiError> CheckLength(const ServedModel& model, const SamplingFields& fields,
                                    size_t num_prompt) {
  const auto longest = static_cast<size_t>(model.config.max_positions);
  if (num_prompt == 0) return BadField("prompt", "the prompt has no tokens");
  const auto max_tokens = static_cast<size_t>(std::max(fields.max_tokens.value_or(1), 1));
  if (num_prompt + max_tokens <= longest) return std::nullopt;
  ApiError error = BadField(
      "max_tokens", fmt::format("the model takes at most {} tokens; the request has {} in the "
                                "prompt and asks for {}",
                                longest, num_prompt, max_tokens));
  error.code = "context_length_exceeded";
  return error;
}

}  // namespace

void SetGrammar(const SamplingFields& fields, GenerationCall* call) {
  if (fields.constraint.kind == OutputConstraint::Kind::kNone) return;
  const std::vector<int32_t> stops = StopTokens(*call->model, fields);
  if (const auto grammar = call->model->grammars->Find(fields.constraint, stops)) {
    for (GroupRequest& group : call->groups) group.grammar = grammar;
    return;
  }
  call->make_grammar = [cache = call->model->grammars, constraint = fields.constraint, stops] {
    return cache->Get(constraint, stops);
  };
}

std::vector<int32_t> StopTokens(const ServedModel& model, const SamplingFields& fields) {
  std::vector<int32_t> stops = fields.stop_token_ids;
  if (!fields.ignore_eos) {
    stops.insert(stops.end(), model.eos_token_ids.begin(), model.eos_token_ids.end());
  }
  return stops;
}

CompletionTextOptions TextOptions(const ServedModel& model, const SamplingFields& fields) {
  return {
      .tokenizer = model.tokenizer,
      .skip = fields.skip_special_tokens ? Tokenizer::Skip::kSpecial : Tokenizer::Skip::kNothing,
      .stops = fields.stop,
      .min_tokens = fields.min_tokens,
      .includes_stop = fields.include_stop_str_in_output};
}

ApiResult<GroupRequest> MakeGroupRequest(const ServedModel& model, const SamplingFields& fields,
                                         std::vector<int32_t> prompt,
                                         const GroupRequestOptions& options) {
  if (auto error = FindUnsupported(fields)) return *std::move(error);
  if (auto error = CheckLength(model, fields, prompt.size())) return *std::move(error);
  const auto vocab_size = static_cast<int32_t>(model.config.vocab_size);
  for (const int32_t token : prompt) {
    if (token < 0 || token >= vocab_size) {
      return BadField("prompt", fmt::format("token {} of the prompt is not in the vocabulary of {}",
                                            token, vocab_size));
    }
  }
  GroupRequest request;
  request.law = MakeLaw(model.defaults, fields);
  if (const Status checked = CheckSamplingLaw(request.law, vocab_size); !checked.ok()) {
    return BadField("", Message(checked));
  }
  if (const Status checked = CheckKvBudget(fields.kv_budget, model.config); !checked.ok()) {
    return BadField("kv_budget", Message(checked));
  }
  request.heavy_hitters = fields.kv_budget;
  const uint64_t seed = fields.seed.value_or(options.fallback_seed);
  for (int32_t i = 0; i < options.num_samples; ++i) {
    request.stream_keys.push_back(SampleStreamKey(seed, kServingPurpose, 0, 0, i));
  }
  const auto room =
      static_cast<int32_t>(model.config.max_positions) - static_cast<int32_t>(prompt.size());
  // A request for no token, whose prompt is echoed, gets one that is not shown.
  request.max_new_tokens = std::max(fields.max_tokens.value_or(room), 1);
  request.prompt_token_ids = std::move(prompt);
  request.stop_token_ids = StopTokens(model, fields);
  if (!fields.stop.empty()) {
    request.make_stop_watcher = [text = TextOptions(model, fields)] {
      return std::make_unique<TextStopWatcher>(text);
    };
  }
  request.priority = fields.priority;
  request.tenant = fields.user;
  request.is_streaming = fields.is_stream;
  request.num_top_logprobs = options.num_top_logprobs;
  request.wants_model_logprobs = options.wants_model_logprobs;
  // A text is of one policy.
  request.is_version_pinned = true;
  request.wants_prompt_logprobs = options.wants_prompt_logprobs;
  request.num_prompt_top_logprobs = options.num_prompt_top_logprobs;
  if (auto error = SetBeamSearch(fields, options, &request)) return *std::move(error);
  return request;
}

}  // namespace rollcall
