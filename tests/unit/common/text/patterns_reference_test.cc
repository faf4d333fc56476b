#include "tests/support/catch.h"
#include "tests/unit/common/text/tokenizer_reference.h"

namespace rollcall {
namespace {

TEST_CASE("Tokenizer: byte-level BPE behind other patterns equals the reference library",
          "[unit][text]") {
  if (!testing::HasReferenceTokenizers()) return;
  testing::CompareWithReference("byte_level_more",
                                {"splits", "o200k", "digits", "unknown_bytes", "clip"}, 50'000);
}

}  // namespace
}  // namespace rollcall
