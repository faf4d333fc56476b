// What turns one word into tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

struct ModelToken {
  int32_t id = 0;
  uint32_t begin = 0;  // bytes of the word
  uint32_t end = 0;
};

// Working memory of a model, used by one thread at a time.
class ModelScratch {
 public:
  virtual ~ModelScratch() = default;
};

// Immutable and thread-safe.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  virtual std::unique_ptr<ModelScratch> NewScratch() const = 0;
  // Appends the tokens of a word that is not empty and UTF-8. The same word always gives the same
  // tokens. `scratch` is of this model. kInvalidArgument: the word has a part without a token and
  // the vocabulary has no unknown token.
  virtual Status Encode(std::string_view word, ModelScratch* scratch,
                        std::vector<ModelToken>* tokens) const = 0;
};

}  // namespace rollcall
