#include "rollout_worker/serving/reply_format.h"

#include <utility>

namespace rollcall {
namespace {

RowJson UsageJson(const UsageCounts& usage) {
  return {{"prompt_tokens", usage.num_prompt},
          {"completion_tokens", usage.num_completion},
          {"total_tokens", usage.num_prompt + usage.num_completion},
          {"prompt_tokens_details", {{"cached_tokens", usage.num_cached}}}};
}

RowJson FinishJson(const std::optional<FinishReason>& finish) {
  if (!finish) return {};
  switch (*finish) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAbort:
      break;
  }
  return "abort";
}

RowJson Number(const std::optional<float>& logprob) {
  return logprob ? RowJson(*logprob) : RowJson();
}

class CompletionFormat final : public ReplyFormat {
 public:
  using ReplyFormat::ReplyFormat;
  bool has_opening() const override { return false; }

 protected:
  const char* ObjectName(Shape) const override { return "text_completion"; }

  RowJson ChoiceJson(const ChoicePiece& piece, const PromptPart& prompt,
                     Shape shape) const override {
    RowJson choice = {{"index", piece.index},
                      {"text", piece.text},
                      {"logprobs", Logprobs(piece.details)},
                      {"finish_reason", FinishJson(piece.finish)},
                      {"stop_reason", piece.stop_reason}};
    AddTokens(piece, &choice);
    if (options().returns_token_ids && (shape == Shape::kWhole || piece.is_first)) {
      choice["prompt_token_ids"] = prompt.token_ids;
    }
    if (!prompt.logprobs.is_null()) choice["prompt_logprobs"] = prompt.logprobs;
    return choice;
  }

 private:
  static RowJson Logprobs(const std::vector<TokenDetail>& details) {
    if (details.empty()) return {};
    RowJson texts = RowJson::array();
    RowJson values = RowJson::array();
    RowJson tops = RowJson::array();
    RowJson offsets = RowJson::array();
    for (const TokenDetail& detail : details) {
      texts.push_back(detail.text);
      values.push_back(Number(detail.logprob));
      offsets.push_back(detail.text_offset);
      // The token itself is always told, beside the alternatives.
      RowJson top;
      if (detail.logprob) top[detail.text] = *detail.logprob;
      for (const auto& [text, logprob] : detail.top) {
        if (!top.contains(text)) top[text] = logprob;
      }
      tops.push_back(std::move(top));
    }
    return {{"text_offset", std::move(offsets)},
            {"token_logprobs", std::move(values)},
            {"tokens", std::move(texts)},
            {"top_logprobs", std::move(tops)}};
  }
};

class ChatFormat final : public ReplyFormat {
 public:
  using ReplyFormat::ReplyFormat;
  bool has_opening() const override { return true; }

 protected:
  const char* ObjectName(Shape shape) const override {
    return shape == Shape::kWhole ? "chat.completion" : "chat.completion.chunk";
  }

  RowJson ChoiceJson(const ChoicePiece& piece, const PromptPart&, Shape shape) const override {
    RowJson choice = {{"index", piece.index}};
    if (shape == Shape::kWhole) {
      choice["message"] = {{"role", "assistant"}, {"content", piece.text}, {"refusal", nullptr}};
    } else {
      RowJson delta = RowJson::object();
      if (piece.is_first) delta["role"] = "assistant";
      if (piece.is_first || !piece.text.empty()) delta["content"] = piece.text;
      choice["delta"] = std::move(delta);
    }
    choice["logprobs"] = Logprobs(piece.details);
    choice["finish_reason"] = FinishJson(piece.finish);
    choice["stop_reason"] = piece.stop_reason;
    AddTokens(piece, &choice);
    return choice;
  }

  void AddPrompts(const std::vector<PromptPart>& prompts, RowJson* whole) const override {
    if (prompts.empty()) return;
    if (options().returns_token_ids) (*whole)["prompt_token_ids"] = prompts[0].token_ids;
    if (!prompts[0].logprobs.is_null()) (*whole)["prompt_logprobs"] = prompts[0].logprobs;
  }

 private:
  static RowJson Entry(const std::string& text, const std::optional<float>& logprob) {
    RowJson bytes = RowJson::array();
    for (const char c : text) bytes.push_back(static_cast<uint8_t>(c));
    return {{"token", text}, {"logprob", Number(logprob)}, {"bytes", std::move(bytes)}};
  }

  static RowJson Logprobs(const std::vector<TokenDetail>& details) {
    if (details.empty()) return {};
    RowJson content = RowJson::array();
    for (const TokenDetail& detail : details) {
      RowJson entry = Entry(detail.text, detail.logprob);
      RowJson tops = RowJson::array();
      for (const auto& [text, logprob] : detail.top) tops.push_back(Entry(text, logprob));
      entry["top_logprobs"] = std::move(tops);
      content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }
};

}  // namespace

std::string Dump(const RowJson& json) {
  return json.dump(-1, ' ', false, RowJson::error_handler_t::replace);
}

RowJson ReplyFormat::Head(Shape shape) const {
  return {{"id", options_.id},
          {"object", ObjectName(shape)},
          {"created", options_.created},
          {"model", options_.model}};
}

void ReplyFormat::AddTokens(const ChoicePiece& piece, RowJson* choice) const {
  if (options_.returns_token_ids) (*choice)["token_ids"] = piece.token_ids;
  if (piece.beam_score) (*choice)["beam_score"] = *piece.beam_score;
  if (options_.returns_behavior) {
    (*choice)["behavior_logprobs"] = piece.behavior_logprobs;
    (*choice)["policy_versions"] = piece.policy_versions;
  }
}

std::string ReplyFormat::Whole(const std::vector<ChoicePiece>& choices,
                               const std::vector<PromptPart>& prompts, int32_t choices_per_prompt,
                               const UsageCounts& usage) const {
  RowJson whole = Head(Shape::kWhole);
  RowJson list = RowJson::array();
  for (const ChoicePiece& choice : choices) {
    const auto prompt = static_cast<size_t>(choice.index / choices_per_prompt);
    list.push_back(ChoiceJson(choice, prompts[prompt], Shape::kWhole));
  }
  whole["choices"] = std::move(list);
  whole["usage"] = UsageJson(usage);
  AddPrompts(prompts, &whole);
  return Dump(whole);
}

std::string ReplyFormat::Event(const ChoicePiece& piece, const PromptPart& prompt,
                               const std::optional<UsageCounts>& usage) const {
  RowJson event = Head(Shape::kEvent);
  event["choices"] = RowJson::array({ChoiceJson(piece, prompt, Shape::kEvent)});
  if (usage) event["usage"] = UsageJson(*usage);
  return Dump(event);
}

std::string ReplyFormat::UsageEvent(const UsageCounts& usage) const {
  RowJson event = Head(Shape::kEvent);
  event["choices"] = RowJson::array();
  event["usage"] = UsageJson(usage);
  return Dump(event);
}

std::unique_ptr<ReplyFormat> MakeCompletionFormat(ReplyOptions options) {
  return std::make_unique<CompletionFormat>(std::move(options));
}

std::unique_ptr<ReplyFormat> MakeChatFormat(ReplyOptions options) {
  return std::make_unique<ChatFormat>(std::move(options));
}

RowJson PromptLogprobsJson(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens,
                           const PromptScores& scores, int32_t num_top) {
  RowJson list = RowJson::array();
  list.push_back(nullptr);
  for (size_t i = 0; i < scores.logprobs.size(); ++i) {
    RowJson entry = RowJson::object();
    const auto add = [&](int32_t token, float logprob, int32_t rank) {
      const std::string id = std::to_string(token);
      if (entry.contains(id)) return;
      entry[id] = {
          {"logprob", logprob}, {"rank", rank}, {"decoded_token", TokenText(tokenizer, token)}};
    };
    add(tokens[i + 1], scores.logprobs[i], scores.ranks[i]);
    for (int32_t k = 0; k < num_top; ++k) {
      const TokenLogprob& top = scores.top_logprobs[i][static_cast<size_t>(k)];
      add(top.token, top.logprob, k + 1);
    }
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace rollcall
