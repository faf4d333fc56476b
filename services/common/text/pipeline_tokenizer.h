// A tokenizer of the parts of a tokenizer.json:
//
//   text -> added tokens -> normalizer -> added tokens -> pre-tokenizer -> model -> post-processor
//           (as it came)                  (normalized)      (words)      (tokens)      (ids)
#pragma once

#include <memory>

#include "services/base/status/status.h"
#include "services/common/text/tokenizer.h"
#include "services/common/text/tokenizer_json.h"

namespace rollcall {

StatusOr<std::shared_ptr<const Tokenizer>> MakePipelineTokenizer(TokenizerParts parts);

}  // namespace rollcall
