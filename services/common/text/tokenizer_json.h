// The parts of a tokenizer.json, checked.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/added_tokens.h"
#include "services/common/text/bpe.h"
#include "services/common/text/decoder.h"
#include "services/common/text/model.h"
#include "services/common/text/normalizer.h"
#include "services/common/text/pre_tokenizer.h"

namespace rollcall {

struct VocabToken {
  std::string content;  // as in the file
  int32_t id = 0;
};

struct TokenizerParts {
  std::vector<VocabToken> vocab;
  std::vector<AddedToken> added_tokens;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::unique_ptr<TokenModel> model;
  const Bpe* bpe = nullptr;  // the model, if it is one
  std::vector<DecoderStep> decoder;
  // What the post-processor makes of a text: ids, kTheText in its place.
  static constexpr int32_t kTheText = -1;
  std::vector<int32_t> post_processor = {kTheText};
};

// kInvalidArgument names the key and what is wrong or not supported.
StatusOr<TokenizerParts> ParseTokenizerJson(std::string_view json);

}  // namespace rollcall
