// One completion of a call on its way out: pieces of text with what is told of their tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rollout_worker/engine/types.h"
#include "rollout_worker/serving/completion_text.h"
#include "services/common/data/row_json.h"

namespace rollcall {

struct TokenDetail {
  int32_t token = 0;
  std::string text;
  std::optional<float> logprob;  // absent: nothing is known, as of the first token of a prompt
  std::vector<std::pair<std::string, float>> top;  // alternatives, most likely first
  size_t text_offset = 0;                          // characters before it
};

enum class FinishReason { kStop, kLength, kAbort };

struct ChoicePiece {
  int32_t index = 0;
  bool is_first = false;
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<float> behavior_logprobs;
  std::vector<int64_t> policy_versions;
  std::vector<TokenDetail> details;  // where they were asked for
  std::optional<FinishReason> finish;
  std::optional<double> beam_score;  // of a finished beam search
  RowJson stop_reason;  // the stop string or token that ended it; null: the end of text, or none
};

struct ChoiceOptions {
  int32_t index = 0;
  CompletionTextOptions text;
  // Token ids that end it; the text leaves them out.
  std::vector<int32_t> stop_token_ids;
  std::vector<int32_t> eos_token_ids;  // of these no stop reason is told
  bool shows_stop_token = false;
  std::optional<int32_t> num_logprobs;  // details are wanted, with so many alternatives
  bool hides_tokens = false;            // the only token was not asked for
};

// Text of one token by itself.
std::string TokenText(const Tokenizer& tokenizer, int32_t token);

// Puts what is known of a prompt's tokens, with num_top alternatives each, into the details that
// begin with those tokens.
void AddPromptScores(const Tokenizer& tokenizer, const PromptScores& scores, int32_t num_top,
                     std::vector<TokenDetail>* details);

// Not thread-safe.
class Choice {
 public:
  explicit Choice(ChoiceOptions options);

  // The prompt as the beginning of the text; its details lack what AddPromptScores adds.
  ChoicePiece Echo(const std::string& text, const std::vector<int32_t>& tokens);
  // Tokens that follow those that were taken before.
  ChoicePiece Take(const SampledTokens& tokens, size_t first);
  // The rest, with how it ended.
  ChoicePiece Finish(const CompletedSample& sample);
  // It ends before its time.
  ChoicePiece Abort();

  bool is_finished() const { return is_finished_; }
  size_t num_tokens() const { return num_tokens_; }

 private:
  ChoicePiece NewPiece();
  void AddToken(const SampledTokens& tokens, size_t i, ChoicePiece* piece);
  TokenDetail Detail(int32_t token);

  const ChoiceOptions options_;
  CompletionText text_;
  bool is_begun_ = false;
  bool is_finished_ = false;
  size_t num_tokens_ = 0;
  size_t text_offset_ = 0;
  std::optional<int32_t> stop_token_;
};

}  // namespace rollcall
