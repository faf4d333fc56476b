#include "rollout_worker/serving/choice.h"

#include <algorithm>
#include <array>
#include <utility>

namespace rollcall {
namespace {

bool Contains(const std::vector<int32_t>& tokens, int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

std::vector<std::pair<std::string, float>> TopTexts(const Tokenizer& tokenizer,
                                                    const std::vector<TokenLogprob>& top,
                                                    int32_t count) {
  std::vector<std::pair<std::string, float>> texts;
  for (size_t i = 0; i < top.size() && static_cast<int32_t>(i) < count; ++i) {
    texts.emplace_back(TokenText(tokenizer, top[i].token), top[i].logprob);
  }
  return texts;
}

}  // namespace

std::string TokenText(const Tokenizer& tokenizer, int32_t token) {
  const std::array<int32_t, 1> one = {token};
  return tokenizer.Decode(one, Tokenizer::Skip::kNothing).value_or("");
}

Choice::Choice(ChoiceOptions options) : options_(std::move(options)), text_(options_.text) {}

ChoicePiece Choice::NewPiece() {
  return {.index = options_.index, .is_first = !std::exchange(is_begun_, true)};
}

TokenDetail Choice::Detail(int32_t token) {
  TokenDetail detail{.token = token,
                     .text = TokenText(*options_.text.tokenizer, token),
                     .text_offset = text_offset_};
  text_offset_ += CountCharacters(detail.text);
  return detail;
}

ChoicePiece Choice::Echo(const std::string& text, const std::vector<int32_t>& tokens) {
  ChoicePiece piece = NewPiece();
  piece.text = text;
  if (!options_.num_logprobs) return piece;
  for (const int32_t token : tokens) piece.details.push_back(Detail(token));
  return piece;
}

void AddPromptScores(const Tokenizer& tokenizer, const PromptScores& scores, int32_t num_top,
                     std::vector<TokenDetail>* details) {
  for (size_t i = 0; i < scores.logprobs.size() && i + 1 < details->size(); ++i) {
    TokenDetail& detail = (*details)[i + 1];
    detail.logprob = scores.logprobs[i];
    if (i < scores.top_logprobs.size()) {
      detail.top = TopTexts(tokenizer, scores.top_logprobs[i], num_top);
    }
  }
}

void Choice::AddToken(const SampledTokens& tokens, size_t i, ChoicePiece* piece) {
  const int32_t token = tokens.token_ids[i];
  ++num_tokens_;
  const bool is_stop = Contains(options_.stop_token_ids, token);
  if (is_stop) stop_token_ = token;
  if (options_.hides_tokens) return;
  if (!is_stop || options_.shows_stop_token) text_.Push(token);
  piece->token_ids.push_back(token);
  if (i < tokens.behavior_logprobs.size()) {
    piece->behavior_logprobs.push_back(tokens.behavior_logprobs[i]);
  }
  if (i < tokens.policy_versions.size()) {
    piece->policy_versions.push_back(tokens.policy_versions[i]);
  }
  if (!options_.num_logprobs) return;
  TokenDetail detail = Detail(token);
  // Under the model's own softmax, as OpenAI has it, not under the law of temperature and top_p.
  if (i < tokens.model_logprobs.size()) detail.logprob = tokens.model_logprobs[i];
  if (i < tokens.top_logprobs.size()) {
    detail.top = TopTexts(*options_.text.tokenizer, tokens.top_logprobs[i], *options_.num_logprobs);
  }
  piece->details.push_back(std::move(detail));
}

ChoicePiece Choice::Take(const SampledTokens& tokens, size_t first) {
  ChoicePiece piece = NewPiece();
  for (size_t i = num_tokens_ - std::min(first, num_tokens_); i < tokens.token_ids.size(); ++i) {
    AddToken(tokens, i, &piece);
  }
  piece.text = text_.Take();
  return piece;
}

ChoicePiece Choice::Finish(const CompletedSample& sample) {
  ChoicePiece piece = NewPiece();
  for (size_t i = num_tokens_; i < sample.token_ids.size(); ++i) AddToken(sample, i, &piece);
  text_.Finish();
  piece.text = text_.Take();
  is_finished_ = true;
  piece.beam_score = sample.beam_score;
  piece.finish = sample.end == CompletionEnd::kStop ? FinishReason::kStop : FinishReason::kLength;
  if (options_.hides_tokens) {
    piece.finish = FinishReason::kLength;
  } else if (sample.end == CompletionEnd::kStop) {
    if (stop_token_) {
      if (!Contains(options_.eos_token_ids, *stop_token_)) piece.stop_reason = *stop_token_;
    } else if (text_.is_stopped()) {
      piece.stop_reason = text_.stop();
    }
  }
  return piece;
}

ChoicePiece Choice::Abort() {
  ChoicePiece piece = NewPiece();
  text_.Finish();
  piece.text = text_.Take();
  is_finished_ = true;
  piece.finish = FinishReason::kAbort;
  return piece;
}

}  // namespace rollcall
