// Against the reference library (Python package `tokenizers`).
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "services/common/text/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using Ids = std::vector<int32_t>;

std::string Python() {
  const char* python = std::getenv("ROLLCALL_PYTHON");
  return python == nullptr || *python == '\0' ? "python3" : python;
}

// Tests run from the repository root.
int RunReference(const std::string& arguments) {
  return std::system(
      (Python() + " tests/unit/common/text/reference_tokenizer.py " + arguments).c_str());
}

bool HasReference() {
  if (std::system((Python() + " -c 'import tokenizers' 2>/dev/null").c_str()) == 0) return true;
  std::cout << "[skipped] the Python package tokenizers is not installed\n";
  return false;
}

TEST_CASE("Tokenizer: equal to the reference library on every family", "[unit][text]") {
  if (!HasReference()) return;
  const testing::TempDir dir;
  REQUIRE(RunReference("train " + dir.path().string()) == 0);
  for (const std::string family : {"gpt2", "gpt2_prefix_space", "llama3", "qwen", "no_regex"}) {
    INFO(family);
    REQUIRE_OK_AND_ASSIGN(const auto tokenizer, LoadTokenizer(dir.File(family)));
    std::ifstream cases(dir.File(family + "/cases.jsonl"));
    std::string line;
    int num_cases = 0;
    while (std::getline(cases, line)) {
      const nlohmann::json expected = nlohmann::json::parse(line);
      const auto text = expected["text"].get<std::string>();
      INFO(expected["text"]);
      REQUIRE_OK_AND_ASSIGN(const Ids ids,
                            tokenizer->Encode(text, Tokenizer::SpecialTokens::kParse));
      REQUIRE(ids == expected["ids"].get<Ids>());
      REQUIRE_OK_AND_ASSIGN(const Ids as_text,
                            tokenizer->Encode(text, Tokenizer::SpecialTokens::kAsText));
      REQUIRE(as_text == expected["ids_as_text"].get<Ids>());
      ++num_cases;
      // Added tokens that swallow white space, and prefix spaces, do not come back.
      if (family == "gpt2_prefix_space" || text.find("tool") != std::string::npos ||
          text.find("[S]") != std::string::npos) {
        continue;
      }
      REQUIRE_OK_AND_ASSIGN(const std::string decoded,
                            tokenizer->Decode(ids, Tokenizer::Skip::kNothing));
      REQUIRE(decoded == text);
    }
    REQUIRE(num_cases > 1000);
  }
}

TEST_CASE("ByteTokenizerJson: the reference library reads it the same way", "[unit][text]") {
  if (!HasReference()) return;
  const testing::TempDir dir;
  const std::string file = dir.Write("tokenizer.json", ByteTokenizerJson());
  REQUIRE(RunReference("bytes " + file) == 0);
}

}  // namespace
}  // namespace rollcall
