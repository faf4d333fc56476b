#include "tests/support/catch.h"
#include "tests/unit/common/text/tokenizer_reference.h"

namespace rollcall {
namespace {

TEST_CASE("Tokenizer: Unigram equals the reference library", "[unit][text]") {
  if (!testing::HasReferenceTokenizers()) return;
  testing::CompareWithReference("unigram", {"t5", "xlnet", "unigram_bytes"}, 50'000);
}

}  // namespace
}  // namespace rollcall
