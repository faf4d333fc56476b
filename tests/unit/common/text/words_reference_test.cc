#include "tests/support/catch.h"
#include "tests/unit/common/text/tokenizer_reference.h"

namespace rollcall {
namespace {

TEST_CASE("Tokenizer: WordPiece and words equal the reference library", "[unit][text]") {
  if (!testing::HasReferenceTokenizers()) return;
  testing::CompareWithReference(
      "words",
      {"bert_uncased", "bert_cased", "word_piece_spaces", "word_level", "suffix", "prefix"},
      50'000);
}

}  // namespace
}  // namespace rollcall
