// The steps around the model in a tokenizer.json.
#pragma once

#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/decoder.h"
#include "services/common/text/json_fields.h"
#include "services/common/text/normalizer.h"
#include "services/common/text/pre_tokenizer.h"

namespace rollcall {

// Each appends the steps of `value`, which may be null for none; kInvalidArgument names the key.
Status ParseNormalizer(const TokenizerJson& value, const std::string& where,
                       std::vector<NormalizerStep>* steps);
Status ParsePreTokenizer(const TokenizerJson& value, const std::string& where,
                         std::vector<PreTokenizerStep>* steps);
Status ParseDecoder(const TokenizerJson& value, const std::string& where,
                    std::vector<DecoderStep>* steps);
// Replaces each TokenizerParts::kTheText in *ids by what the post-processor makes of it.
Status ParsePostProcessor(const TokenizerJson& value, const std::string& where,
                          std::vector<int32_t>* ids);

}  // namespace rollcall
