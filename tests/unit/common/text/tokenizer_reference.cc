#include "tests/unit/common/text/tokenizer_reference.h"

#include <algorithm>
#include <fstream>

#include <nlohmann/json.hpp>

#include "services/common/text/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/python.h"
#include "tests/support/temp_dir.h"

namespace rollcall::testing {
namespace {

using Ids = std::vector<int32_t>;
using Json = nlohmann::json;

std::vector<ByteRange> Ranges(const Json& flat) {
  std::vector<ByteRange> ranges;
  for (size_t i = 0; i + 1 < flat.size(); i += 2) {
    ranges.push_back({flat[i].get<uint32_t>(), flat[i + 1].get<uint32_t>()});
  }
  return ranges;
}

std::string OneByOne(const Tokenizer& tokenizer, const Ids& ids, Tokenizer::Skip skip) {
  const auto detokenizer = tokenizer.NewDetokenizer(skip);
  std::string text;
  for (const int32_t id : ids) {
    const auto part = detokenizer->Push(id);
    REQUIRE_OK(part.status());
    text += *part;
  }
  const auto rest = detokenizer->Finish();
  REQUIRE_OK(rest.status());
  return text + *rest;
}

void CompareCase(const Tokenizer& tokenizer, const Json& expected) {
  const auto text = expected[0].get<std::string>();
  INFO(expected[0]);
  const auto ids = tokenizer.Encode(text, Tokenizer::SpecialTokens::kParse);
  REQUIRE_OK(ids.status());
  REQUIRE(*ids == expected[1].get<Ids>());
  if (!expected[2].is_null()) {
    const auto as_text = tokenizer.Encode(text, Tokenizer::SpecialTokens::kAsText);
    REQUIRE_OK(as_text.status());
    REQUIRE(*as_text == expected[2].get<Ids>());
  }
  const auto encoded = tokenizer.EncodeWithOffsets(text, Tokenizer::SpecialTokens::kParse);
  REQUIRE_OK(encoded.status());
  REQUIRE(encoded->ids == *ids);
  const std::vector<ByteRange> ranges =
      expected[3].is_null() ? encoded->ranges : Ranges(expected[3]);
  REQUIRE(encoded->ranges.size() == ranges.size());
  const auto [ours, theirs] =
      std::mismatch(encoded->ranges.begin(), encoded->ranges.end(), ranges.begin());
  if (ours != encoded->ranges.end()) {
    INFO("token " << ours - encoded->ranges.begin() << ": " << ours->begin << " to " << ours->end
                  << ", there " << theirs->begin << " to " << theirs->end);
    REQUIRE(encoded->ranges == ranges);
  }
  for (const auto skip : {Tokenizer::Skip::kNothing, Tokenizer::Skip::kSpecial}) {
    const auto decoded = tokenizer.Decode(*ids, skip);
    REQUIRE_OK(decoded.status());
    REQUIRE(*decoded ==
            expected[skip == Tokenizer::Skip::kNothing ? 4 : 5].get_ref<const std::string&>());
    REQUIRE(OneByOne(tokenizer, *ids, skip) == *decoded);
  }
  if (!expected[6].is_null()) {
    const auto for_model = tokenizer.EncodeForModel(text, Tokenizer::SpecialTokens::kParse);
    REQUIRE_OK(for_model.status());
    REQUIRE(*for_model == expected[6].get<Ids>());
  }
}

}  // namespace

bool HasReferenceTokenizers() { return HasPython("tokenizers, sentencepiece"); }

int RunReference(const std::string& arguments) {
  return RunPython("tests/unit/common/text/reference_tokenizer.py", arguments);
}

void CompareWithReference(const std::string& group, const std::vector<std::string>& families,
                          int count) {
  const TempDir dir;
  REQUIRE(RunReference("train " + group + " " + dir.path().string() + " " +
                       std::to_string(count)) == 0);
  for (const std::string& family : families) {
    INFO(family);
    REQUIRE_OK_AND_ASSIGN(const auto tokenizer, LoadTokenizer(dir.File(family)));
    std::ifstream cases(dir.File(family + "/cases.jsonl"));
    std::string line;
    int num_cases = 0;
    for (; std::getline(cases, line); ++num_cases) CompareCase(*tokenizer, Json::parse(line));
    REQUIRE(num_cases >= count);
  }
}

void CompareEveryCharacter(const std::string& group, const std::vector<std::string>& families) {
  const TempDir dir;
  std::string arguments = "every " + group + " " + dir.path().string();
  for (const std::string& family : families) arguments += " " + family;
  REQUIRE(RunReference(arguments) == 0);
  for (const std::string& family : families) {
    INFO(family);
    REQUIRE_OK_AND_ASSIGN(const auto tokenizer, LoadTokenizer(dir.File(family)));
    std::ifstream cases(dir.File(family + "/cases.jsonl"));
    std::string line;
    size_t num_cases = 0;
    for (; std::getline(cases, line); ++num_cases) {
      const Json expected = Json::parse(line);
      INFO(expected[0]);
      const auto ids =
          tokenizer->Encode(expected[0].get<std::string>(), Tokenizer::SpecialTokens::kParse);
      REQUIRE_OK(ids.status());
      REQUIRE(*ids == expected[1].get<Ids>());
    }
    REQUIRE(num_cases == 0x10F800 / 64);
  }
}

}  // namespace rollcall::testing
