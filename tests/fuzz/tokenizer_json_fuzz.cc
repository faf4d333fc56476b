// tokenizer.json: a tokenizer that is accepted encodes text into ids that it decodes.
#include <string>

#include "services/common/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using rollcall::Tokenizer;
  using rollcall::fuzz::Require;
  const auto tokenizer = rollcall::ParseTokenizer(rollcall::fuzz::Text(data, size), "fuzz");
  if (!tokenizer.ok()) return 0;
  for (const char* text :
       {"", "Hello world, 123!", "  a\n\tb\r\n", "\xE4\xBD\xA0\xE5\xA5\xBD\xF0\x9F\x8E\x89"}) {
    const auto ids = (*tokenizer)->Encode(text, Tokenizer::SpecialTokens::kParse);
    if (!ids.ok()) continue;
    for (const int32_t id : *ids) Require(id >= 0 && id < (*tokenizer)->vocab_size());
    Require((*tokenizer)->Decode(*ids, Tokenizer::Skip::kNothing).ok());
  }
  return 0;
}
