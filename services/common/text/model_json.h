// The model in a tokenizer.json.
#pragma once

#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/json_fields.h"
#include "services/common/text/tokenizer_json.h"

namespace rollcall {

// Reads model.vocab into parts->vocab.
Status ParseVocab(const TokenizerJson& model, TokenizerParts* parts);

// Makes parts->model; the vocabulary, the added tokens and the pre-tokenizer must be there. The
// tokens in `forbidden` can not be made from text.
Status ParseModel(const TokenizerJson& model, const std::vector<int32_t>& forbidden,
                  TokenizerParts* parts);

}  // namespace rollcall
