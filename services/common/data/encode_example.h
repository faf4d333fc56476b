// Examples as tokens.
//
// Texts never become control tokens, whatever they say; a conversation becomes the text that the
// chat template makes of it, whose control tokens are parsed. Plain completions end in the end
// token; a conversation ends as its template ends it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/data/conversation_renderer.h"
#include "services/common/data/example.h"
#include "services/common/text/tokenizer.h"

namespace rollcall {

// Tokens that all train, or that are all context.
struct TokenRun {
  std::vector<int32_t> tokens;
  bool trains = true;
  bool operator==(const TokenRun&) const = default;
};
using TokenRuns = std::vector<TokenRun>;

int64_t NumTokens(const TokenRuns& runs);

struct EncodedExample {
  std::vector<int32_t> prompt;  // never empty
  // One for each completion of the example, in its order. The last run trains.
  std::vector<TokenRuns> completions;
};

struct ExampleEncoding {
  const Tokenizer& tokenizer;
  const ConversationRenderer* renderer = nullptr;  // null: conversations are refused
  std::string why_no_renderer;                     // said then
  int32_t end_token = -1;                          // -1: none is added
};

// A completion trains whole when it is a text or assistant messages alone; of other messages only
// what the assistant says trains. Of shape kMessages the prompt is all before the first of it; of
// shape kText it is the first token.
// kInvalidArgument: an empty prompt or completion, a conversation without assistant messages, what
// the chat template refuses.
StatusOr<EncodedExample> EncodeExample(const Example& example, const ExampleEncoding& encoding);

}  // namespace rollcall
