#include "rollout_worker/serving/api/sampling_fields.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "services/model/decoder/kv_budget.h"

namespace rollcall {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxListedTokens = size_t{1} << 20;
constexpr size_t kMaxStops = 64;
constexpr size_t kMaxStopBytes = 1024;
constexpr size_t kMaxConstraintBytes = 256 << 10;
constexpr size_t kMaxUserBytes = 256;

void ReadLaw(FieldReader& reader, SamplingFields* fields) {
  fields->temperature = reader.Number("temperature", 0, 100);
  fields->top_p = reader.Number("top_p", 0, 1);
  if (fields->top_p && *fields->top_p == 0) {
    reader.Fail("top_p", "'top_p' must be greater than 0 and at most 1");
  }
  if (const auto top_k = reader.Integer("top_k", -1, kMaxInt)) {
    fields->top_k = static_cast<int32_t>(std::max<int64_t>(*top_k, 0));
  }
  fields->min_p = reader.Number("min_p", 0, 1);
  if (fields->min_p && *fields->min_p == 1) {
    reader.Fail("min_p", "'min_p' must be at least 0 and less than 1");
  }
  fields->repetition_penalty = reader.Number("repetition_penalty", 0.01, 100);
  fields->presence_penalty = reader.Number("presence_penalty", -2, 2).value_or(0);
  fields->frequency_penalty = reader.Number("frequency_penalty", -2, 2).value_or(0);
  if (auto allowed = reader.Tokens("allowed_token_ids", kMaxListedTokens)) {
    if (allowed->empty()) reader.Fail("allowed_token_ids", "'allowed_token_ids' allows no token");
    fields->allowed_token_ids = *std::move(allowed);
  }
}

void ReadLogitBias(FieldReader& reader, SamplingFields* fields) {
  const RowJson* biases = reader.Object("logit_bias");
  if (biases == nullptr) return;
  for (const auto& [name, value] : biases->items()) {
    int32_t token = -1;
    const char* end = name.data() + name.size();
    const auto [parsed, error] = std::from_chars(name.data(), end, token);
    if (error != std::errc() || parsed != end || token < 0) {
      return reader.Fail("logit_bias", "the keys of 'logit_bias' must be token ids");
    }
    const double bias = value.is_number() ? value.get<double>() : 1000.0;
    if (!(bias >= -100 && bias <= 100)) {
      return reader.Fail("logit_bias", "the values of 'logit_bias' must be from -100 to 100");
    }
    fields->logit_bias.emplace_back(token, bias);
  }
}

void ReadEnds(FieldReader& reader, SamplingFields* fields) {
  fields->stop = reader.Texts("stop", kMaxStops, kMaxStopBytes);
  if (std::any_of(fields->stop.begin(), fields->stop.end(),
                  [](const std::string& stop) { return stop.empty(); })) {
    reader.Fail("stop", "a string of 'stop' is empty");
  }
  fields->stop_token_ids = reader.Tokens("stop_token_ids", 1024).value_or(std::vector<int32_t>());
  fields->ignore_eos = reader.Bool("ignore_eos", false);
  fields->include_stop_str_in_output = reader.Bool("include_stop_str_in_output", false);
  fields->min_tokens = static_cast<int32_t>(reader.Integer("min_tokens", 0, kMaxInt).value_or(0));
}

// A schema as an object, or as a text that holds one.
void SetSchema(FieldReader& reader, std::string_view field, const RowJson& schema,
               OutputConstraint* constraint) {
  std::string text = schema.is_string() ? schema.get<std::string>() : schema.dump();
  if (text.size() > kMaxConstraintBytes || !(schema.is_string() || schema.is_object())) {
    return reader.Fail(field, "'" + std::string(field) + "' must be a JSON schema of at most " +
                                  std::to_string(kMaxConstraintBytes) + " bytes");
  }
  *constraint = {OutputConstraint::Kind::kJsonSchema, std::move(text), std::string(field)};
}

void ReadResponseFormat(FieldReader& reader, OutputConstraint* constraint) {
  const RowJson* format = reader.Object("response_format");
  if (format == nullptr) return;
  const auto type = format->find("type");
  if (type == format->end() || *type == "text") {
    if (type == format->end()) reader.Fail("response_format", "'response_format.type' is missing");
    return;
  }
  if (*type == "json_object") {
    *constraint = {OutputConstraint::Kind::kJsonObject, "", "response_format"};
    return;
  }
  const auto wrapper = format->find("json_schema");
  if (*type != "json_schema" || wrapper == format->end() || !wrapper->is_object() ||
      !wrapper->contains("schema")) {
    return reader.Fail("response_format",
                       "'response_format' must be {\"type\": \"text\"}, {\"type\": "
                       "\"json_object\"} or {\"type\": \"json_schema\", \"json_schema\": "
                       "{\"name\": ..., \"schema\": {...}}}");
  }
  SetSchema(reader, "response_format", *wrapper->find("schema"), constraint);
}

void ReadConstraint(FieldReader& reader, SamplingFields* fields) {
  ReadResponseFormat(reader, &fields->constraint);
  int num_constraints = fields->constraint.kind == OutputConstraint::Kind::kNone ? 0 : 1;
  const auto read = [&](FieldReader& from, std::string_view json, std::string_view regex) {
    if (const RowJson* schema = from.Any(json)) {
      ++num_constraints;
      SetSchema(from, json, *schema, &fields->constraint);
    }
    if (auto expression = from.Text(regex, kMaxConstraintBytes)) {
      ++num_constraints;
      fields->constraint = {OutputConstraint::Kind::kRegex, *std::move(expression),
                            std::string(regex)};
    }
  };
  read(reader, "guided_json", "guided_regex");
  if (const RowJson* structured = reader.Object("structured_outputs")) {
    FieldReader inner(*structured);
    const int num_others = num_constraints;
    read(inner, "json", "regex");
    if (num_constraints > num_others) fields->constraint.field.insert(0, "structured_outputs.");
    if (const auto& error = inner.error()) reader.Fail("structured_outputs", error->message);
    for (const std::string& name : inner.UnknownFields()) {
      reader.Fail("structured_outputs", "'structured_outputs." + name + "' is not supported");
    }
  }
  if (num_constraints > 1) {
    reader.Fail(fields->constraint.field, "the output can have one constraint only");
  }
}

void ReadKvBudget(FieldReader& reader, SamplingFields* fields) {
  const RowJson* budget = reader.Object("kv_budget");
  if (budget == nullptr) return;
  FieldReader inner(*budget);
  const auto num_heavy = inner.Integer("num_heavy", 1, kMaxBudgetTokens);
  const auto num_recent = inner.Integer("num_recent", 1, kMaxBudgetTokens);
  if (const auto& error = inner.error()) {
    reader.Fail("kv_budget", "'kv_budget': " + error->message);
  } else if (!num_heavy || !num_recent || !inner.UnknownFields().empty()) {
    reader.Fail("kv_budget",
                "'kv_budget' must be {\"num_heavy\": ..., \"num_recent\": ...}, both at "
                "least 1");
  } else {
    fields->kv_budget = {.num_heavy = static_cast<int32_t>(*num_heavy),
                         .num_recent = static_cast<int32_t>(*num_recent)};
  }
}

void ReadStream(FieldReader& reader, SamplingFields* fields) {
  fields->is_stream = reader.Bool("stream", false);
  const RowJson* options = reader.Object("stream_options");
  if (options == nullptr) return;
  if (!fields->is_stream) {
    return reader.Fail("stream_options", "'stream_options' needs 'stream': true");
  }
  FieldReader inner(*options);
  fields->includes_usage = inner.Bool("include_usage", false);
  fields->includes_running_usage = inner.Bool("continuous_usage_stats", false);
  if (const auto& error = inner.error()) reader.Fail("stream_options", error->message);
}

// As vLLM spelled it: best_of beams, of which the best n are shown.
void ReadBeamSearch(FieldReader& reader, SamplingFields* fields) {
  const bool is_on = reader.Bool("use_beam_search", false);
  const auto penalty = reader.Number("length_penalty", -10, 10);
  const RowJson* early = reader.Any("early_stopping");
  if (early != nullptr && !early->is_boolean() && *early != "never") {
    return reader.Fail("early_stopping", "'early_stopping' must be true, false or \"never\"");
  }
  if (!is_on) {
    if (penalty && *penalty != 1) {
      reader.Fail("length_penalty", "'length_penalty' needs 'use_beam_search': true");
    } else if (early != nullptr && *early != false) {
      reader.Fail("early_stopping", "'early_stopping' needs 'use_beam_search': true");
    }
    return;
  }
  if (fields->is_stream) {
    reader.Fail("use_beam_search",
                "'use_beam_search' cannot be streamed: no token is sure before "
                "the end of the search");
  }
  BeamOptions beams{.length_penalty = penalty.value_or(1)};
  beams.num_beams =
      static_cast<int32_t>(reader.Integer("best_of", 1, kMaxBeams).value_or(fields->n));
  if (beams.num_beams > kMaxBeams || beams.num_beams < fields->n) {
    reader.Fail("best_of",
                "a search has 'best_of' beams, from 'n' to " + std::to_string(kMaxBeams));
  }
  if (early != nullptr && *early != false) {
    beams.early_stopping = early->is_string() ? BeamOptions::EarlyStopping::kNever
                                              : BeamOptions::EarlyStopping::kAtOnce;
  }
  fields->beam_search = beams;
}

}  // namespace

SamplingFields ReadSamplingFields(FieldReader& reader) {
  SamplingFields fields;
  ReadLaw(reader, &fields);
  ReadLogitBias(reader, &fields);
  ReadEnds(reader, &fields);
  ReadConstraint(reader, &fields);
  ReadKvBudget(reader, &fields);
  ReadStream(reader, &fields);
  fields.n = static_cast<int32_t>(reader.Integer("n", 1, kMaxChoices).value_or(1));
  ReadBeamSearch(reader, &fields);
  fields.skip_special_tokens = reader.Bool("skip_special_tokens", true);
  if (const auto seed = reader.Integer("seed", std::numeric_limits<int64_t>::min(),
                                       std::numeric_limits<int64_t>::max())) {
    fields.seed = static_cast<uint64_t>(*seed);
  }
  fields.priority = static_cast<int32_t>(reader.Integer("priority", -kMaxInt, kMaxInt).value_or(0));
  fields.user = reader.Text("user", kMaxUserBytes).value_or("");
  fields.cache_salt = reader.Text("cache_salt", kMaxUserBytes).value_or("");
  fields.return_token_ids = reader.Bool("return_token_ids", false);
  fields.return_behavior = reader.Bool("return_behavior_logprobs", false);
  if (const auto count = reader.Integer("prompt_logprobs", 0, kMaxLogprobs)) {
    fields.prompt_logprobs = static_cast<int32_t>(*count);
  }
  // Ours as it is: spaces between special tokens are what the tokenizer's decoder makes of them.
  reader.Skip({"spaces_between_special_tokens", "store", "metadata", "service_tier",
               "safety_identifier", "prompt_cache_key"});
  return fields;
}

}  // namespace rollcall
