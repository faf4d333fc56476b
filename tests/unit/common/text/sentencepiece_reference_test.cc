#include "tests/support/catch.h"
#include "tests/unit/common/text/tokenizer_reference.h"

namespace rollcall {
namespace {

TEST_CASE("Tokenizer: SentencePiece BPE equals the reference library", "[unit][text]") {
  if (!testing::HasReferenceTokenizers()) return;
  testing::CompareWithReference(
      "sentencepiece", {"llama2", "mistral", "gemma", "across_words", "metaspace"}, 50'000);
}

}  // namespace
}  // namespace rollcall
