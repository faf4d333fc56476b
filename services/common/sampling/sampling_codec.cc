#include "services/common/sampling/sampling_codec.h"

#include <charconv>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "services/grammar/json_schema.h"
#include "services/grammar/regex.h"

namespace rollcall {
namespace {

// All of the text is one number.
template <typename Number>
bool ParseNumber(const std::string& text, Number* number) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, *number);
  return error == std::errc() && rest == end;
}

}  // namespace

SamplingLaw LawFromParams(const v1::SamplingParams& params) {
  SamplingLaw law{
      .temperature = params.temperature(),
      .top_p = params.top_p(),
      .top_k = params.top_k(),
      .min_p = params.min_p(),
      .repetition_penalty = params.has_repetition_penalty() ? params.repetition_penalty() : 1.0,
      .presence_penalty = params.presence_penalty(),
      .frequency_penalty = params.frequency_penalty(),
      .allowed_token_ids = {params.allowed_token_ids().begin(), params.allowed_token_ids().end()},
      .banned_token_ids = {params.banned_token_ids().begin(), params.banned_token_ids().end()},
      .min_new_tokens = params.min_new_tokens()};
  for (const v1::LogitBias& bias : params.logit_bias()) {
    law.logit_bias.push_back({bias.token_id(), bias.bias()});
  }
  return law;
}

StatusOr<v1::SamplingParams> ParamsFromSpec(const v1::RolloutSpec& spec) {
  v1::SamplingParams params;
  params.set_temperature(spec.temperature());
  params.set_top_p(spec.top_p());
  params.set_top_k(spec.top_k());
  params.set_min_p(spec.min_p());
  params.set_max_new_tokens(spec.max_new_tokens());
  params.set_repetition_penalty(spec.has_repetition_penalty() ? spec.repetition_penalty() : 1.0);
  params.set_presence_penalty(spec.presence_penalty());
  params.set_frequency_penalty(spec.frequency_penalty());
  params.set_min_new_tokens(spec.min_new_tokens());
  // protobuf maps have no order; a law has one.
  const std::map<std::string, std::string> biases(spec.logit_bias().begin(),
                                                  spec.logit_bias().end());
  for (const auto& [token, bias] : biases) {
    v1::LogitBias& out = *params.add_logit_bias();
    int32_t id = 0;
    float value = 0;
    if (!ParseNumber(token, &id) || id < 0) {
      return InvalidArgument("logit_bias: '" + token + "' is no token id");
    }
    if (!ParseNumber(bias, &value)) {
      return InvalidArgument("logit_bias: '" + bias + "' of token " + token + " is no number");
    }
    out.set_token_id(id);
    out.set_bias(value);
  }
  const v1::GrammarSpec& grammar = spec.grammar();
  if (grammar.has_regex() && grammar.has_json_schema()) {
    return InvalidArgument("grammar: give regex or json_schema, not both");
  }
  if (grammar.has_regex()) params.mutable_grammar()->set_regex(grammar.regex());
  if (grammar.has_json_schema()) {
    params.mutable_grammar()->set_json_schema(grammar.json_schema());
  }
  const v1::KvBudgetSpec& budget = spec.kv_budget();
  if (budget.has_num_heavy() != budget.has_num_recent()) {
    return InvalidArgument("kv_budget: give num_heavy and num_recent, both or neither");
  }
  if (budget.has_num_heavy()) {
    params.mutable_kv_budget()->set_num_heavy(budget.num_heavy());
    params.mutable_kv_budget()->set_num_recent(budget.num_recent());
  }
  return params;
}

StatusOr<ByteAutomaton> CompileGrammar(const v1::Grammar& grammar) {
  switch (grammar.kind_case()) {
    case v1::Grammar::kRegex:
      return CompileRegex(grammar.regex());
    case v1::Grammar::kJsonSchema:
      return CompileJsonSchema(grammar.json_schema());
    case v1::Grammar::KIND_NOT_SET:
      break;
  }
  return InvalidArgument("the grammar is neither a regular expression nor a JSON schema");
}

StatusOr<std::shared_ptr<const TokenGrammar>> MakeTokenGrammar(
    const v1::Grammar& grammar, const Tokenizer& tokenizer, int64_t vocab_size,
    std::span<const int32_t> stop_token_ids) {
  ROLLCALL_ASSIGN_OR_RETURN(ByteAutomaton automaton, CompileGrammar(grammar));
  std::vector<std::string> bytes(static_cast<size_t>(vocab_size));
  for (size_t t = 0; t < bytes.size(); ++t) {
    bytes[t] = tokenizer.TokenBytes(static_cast<int32_t>(t));
  }
  return std::make_shared<const TokenGrammar>(
      std::move(automaton), std::make_shared<const TokenTrie>(bytes), stop_token_ids);
}

bool RestrictsTokens(const v1::SamplingParams& params) {
  return params.temperature() > 0 &&
         (params.top_k() > 0 || (params.top_p() > 0 && params.top_p() < 1) || params.min_p() > 0 ||
          params.allowed_token_ids_size() > 0 || params.banned_token_ids_size() > 0 ||
          params.min_new_tokens() > 0 || params.grammar().kind_case() != v1::Grammar::KIND_NOT_SET);
}

}  // namespace rollcall
