// The parts of a tokenizer.json, checked.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/added_tokens.h"
#include "services/common/text/bpe.h"
#include "services/common/text/pre_tokenizer.h"

namespace rollcall {

struct TokenizerParts {
  BpeOptions bpe;  // forbidden_ids are the special tokens
  std::vector<AddedToken> added_tokens;
  std::vector<PreTokenizerStep> pre_tokenizer;
};

// kInvalidArgument names the key and what is wrong or not supported.
StatusOr<TokenizerParts> ParseTokenizerJson(std::string_view json);

}  // namespace rollcall
