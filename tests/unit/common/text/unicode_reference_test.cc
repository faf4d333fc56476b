#include "tests/support/catch.h"
#include "tests/unit/common/text/tokenizer_reference.h"

namespace rollcall {
namespace {

TEST_CASE("Tokenizer: every character of Unicode equals the reference library", "[unit][text]") {
  if (!testing::HasReferenceTokenizers()) return;
  testing::CompareEveryCharacter("byte_level", {"gpt2", "llama3", "qwen"});
  testing::CompareEveryCharacter("byte_level_more", {"o200k", "clip"});
  testing::CompareEveryCharacter("sentencepiece", {"metaspace"});
  testing::CompareEveryCharacter("unigram", {"t5", "xlnet"});
  testing::CompareEveryCharacter("words", {"bert_uncased", "word_piece_spaces", "word_level"});
}

}  // namespace
}  // namespace rollcall
