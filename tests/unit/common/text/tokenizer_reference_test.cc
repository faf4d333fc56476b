#include "tests/unit/common/text/tokenizer_reference.h"

#include <string>

#include "services/common/text/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

constexpr int kNumTexts = 50'000;

TEST_CASE("Tokenizer: byte-level BPE equals the reference library", "[unit][text]") {
  if (!testing::HasReferenceTokenizers()) return;
  testing::CompareWithReference(
      "byte_level", {"gpt2", "gpt2_prefix_space", "llama3", "qwen", "no_regex"}, kNumTexts);
}

TEST_CASE("ByteTokenizerJson: the reference library reads it the same way", "[unit][text]") {
  if (!testing::HasReferenceTokenizers()) return;
  const testing::TempDir dir;
  const std::string file = dir.Write("tokenizer.json", ByteTokenizerJson());
  REQUIRE(testing::RunReference("bytes " + file) == 0);
}

}  // namespace
}  // namespace rollcall
