// How the two APIs write the same answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rollout_worker/serving/choice.h"
#include "services/common/data/row_json.h"

namespace rollcall {

struct UsageCounts {
  size_t num_prompt = 0;
  size_t num_completion = 0;
  size_t num_cached = 0;
};

struct ReplyOptions {
  std::string id;
  std::string model;
  int64_t created = 0;  // Unix seconds
  bool returns_token_ids = false;
  bool returns_behavior = false;
};

// What is told of the prompt of a choice.
struct PromptPart {
  std::vector<int32_t> token_ids;
  RowJson logprobs;  // null: not asked for
};

// Immutable.
class ReplyFormat {
 public:
  explicit ReplyFormat(ReplyOptions options) : options_(std::move(options)) {}
  virtual ~ReplyFormat() = default;

  // The whole answer: one finished piece per choice.
  std::string Whole(const std::vector<ChoicePiece>& choices, const std::vector<PromptPart>& prompts,
                    int32_t choices_per_prompt, const UsageCounts& usage) const;
  // One event of a stream. `prompt` goes with the first piece of a choice.
  std::string Event(const ChoicePiece& piece, const PromptPart& prompt,
                    const std::optional<UsageCounts>& usage) const;
  // The last event: usage alone.
  std::string UsageEvent(const UsageCounts& usage) const;
  // Whether a choice begins with an event of its own, before its first text.
  virtual bool has_opening() const = 0;

 protected:
  enum class Shape { kWhole, kEvent };
  virtual const char* ObjectName(Shape shape) const = 0;
  virtual RowJson ChoiceJson(const ChoicePiece& piece, const PromptPart& prompt,
                             Shape shape) const = 0;
  // Of the whole answer, beside the choices.
  virtual void AddPrompts(const std::vector<PromptPart>&, RowJson*) const {}
  void AddTokens(const ChoicePiece& piece, RowJson* choice) const;
  const ReplyOptions& options() const { return options_; }

 private:
  RowJson Head(Shape shape) const;

  const ReplyOptions options_;
};

std::unique_ptr<ReplyFormat> MakeCompletionFormat(ReplyOptions options);
std::unique_ptr<ReplyFormat> MakeChatFormat(ReplyOptions options);

// As vLLM's prompt_logprobs: null for the first token of the prompt, then for each token
// {"<token id>": {"logprob", "rank", "decoded_token"}, ...}: itself, and the num_top most likely.
RowJson PromptLogprobsJson(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens,
                           const PromptScores& scores, int32_t num_top);

// As compact text; bytes that are no UTF-8 become U+FFFD.
std::string Dump(const RowJson& json);

}  // namespace rollcall
