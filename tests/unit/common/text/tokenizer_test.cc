#include "services/common/text/tokenizer.h"

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "services/base/runtime/random.h"
#include "services/common/text/byte_level.h"
#include "services/common/text/onig_pattern.h"
#include "services/common/text/regex.h"
#include "services/common/text/utf8.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;
constexpr auto kAsText = Tokenizer::SpecialTokens::kAsText;
constexpr auto kParse = Tokenizer::SpecialTokens::kParse;

std::shared_ptr<const Tokenizer> Bytes() {
  REQUIRE_OK_AND_ASSIGN(auto tokenizer, ParseTokenizer(ByteTokenizerJson(), "bytes"));
  return tokenizer;
}

TEST_CASE("Byte tokenizer: one id a byte, special text stays text", "[unit][text]") {
  const auto tokenizer = Bytes();
  CHECK(tokenizer->vocab_size() == 257);
  CHECK(tokenizer->TokenId("<|endoftext|>") == 256);
  CHECK(tokenizer->TokenId("a") == 'a');
  CHECK(tokenizer->TokenId("ab") == -1);
  CHECK(*tokenizer->Encode("aé", kAsText) == Ids{'a', 0xC3, 0xA9});
  CHECK(*tokenizer->Encode("a<|endoftext|>", kParse) == Ids{'a', 256});
  CHECK(tokenizer->Encode("<|endoftext|>", kAsText)->size() == 13);
  CHECK(tokenizer->Encode("", kParse)->empty());
}

TEST_CASE("Decode: skips special tokens, repairs UTF-8, refuses foreign ids", "[unit][text]") {
  const auto tokenizer = Bytes();
  const Ids ids = {'h', 256, 'i'};
  CHECK(*tokenizer->Decode(ids, Tokenizer::Skip::kSpecial) == "hi");
  CHECK(*tokenizer->Decode(ids, Tokenizer::Skip::kNothing) == "h<|endoftext|>i");
  CHECK(*tokenizer->Decode(Ids{'x', 0xF0, 0x9F, 'y'}, Tokenizer::Skip::kSpecial) == "x\uFFFDy");
  for (const int32_t id : {-1, 257}) {
    const auto decoded = tokenizer->Decode(Ids{id}, Tokenizer::Skip::kSpecial);
    CHECK(decoded.status().code() == StatusCode::kInvalidArgument);
    CHECK(Message(decoded.status()) ==
          "id " + std::to_string(id) + " is not in the vocabulary of 257");
  }
}

TEST_CASE("TokenBytes: what a token adds to a text", "[unit][text]") {
  const auto tokenizer = Bytes();
  for (int byte = 0; byte < 256; ++byte) {
    CHECK(tokenizer->TokenBytes(byte) == std::string(1, static_cast<char>(byte)));
  }
  for (const int32_t id : {-1, 256, 257}) CHECK(tokenizer->TokenBytes(id).empty());
  REQUIRE_OK_AND_ASSIGN(
      const auto pieces,
      ParseTokenizer(
          R"({"model": {"type": "BPE", "byte_fallback": true, "merges": [], "unk_token": null,
        "vocab": {"▁": 0, "a": 1, "<0x0A>": 2, "<0xC3>": 3, "é": 4}},
        "decoder": {"type": "Sequence", "decoders": [
          {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
          {"type": "ByteFallback"}, {"type": "Fuse"},
          {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}})",
          "pieces"));
  CHECK(pieces->TokenBytes(0) == " ");
  CHECK(pieces->TokenBytes(1) == "a");
  CHECK(pieces->TokenBytes(2) == "\n");
  CHECK(pieces->TokenBytes(3) == "\xC3");
  CHECK(pieces->TokenBytes(4) == "é");
}

TEST_CASE("EncodeWithOffsets: ranges are whole characters of the text", "[unit][text]") {
  REQUIRE_OK_AND_ASSIGN(const EncodedText encoded,
                        Bytes()->EncodeWithOffsets("aé<|endoftext|>b", kParse));
  CHECK(encoded.ids == Ids{'a', 0xC3, 0xA9, 256, 'b'});
  CHECK(encoded.ranges == std::vector<ByteRange>{{0, 1}, {1, 3}, {1, 3}, {3, 16}, {16, 17}});
  CHECK(Bytes()->EncodeWithOffsets("\xFF", kAsText).status().code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("Encode: text that is not UTF-8 is refused with the place", "[unit][text]") {
  const auto ids = Bytes()->Encode("ab\xFF", kAsText);
  CHECK(Message(ids.status()) == "text is not UTF-8 at byte 2");
}

TEST_CASE("Encode: random valid UTF-8 comes back from Decode", "[unit][text]") {
  const auto tokenizer = Bytes();
  CounterRandom random(7);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (uint64_t i = random.Below(40); i > 0; --i) {
      char32_t c = static_cast<char32_t>(random.Below(random.Below(2) == 0 ? 0x80 : 0x110000));
      if (c >= 0xD800 && c < 0xE000) c = U'?';
      AppendUtf8(c, &text);
    }
    REQUIRE_OK_AND_ASSIGN(const Ids ids, tokenizer->Encode(text, kAsText));
    REQUIRE(*tokenizer->Decode(ids, Tokenizer::Skip::kNothing) == text);
  }
}

TEST_CASE("Encode: ignore_merges never makes a special token of plain text", "[unit][text]") {
  Json changed = Json::parse(ByteTokenizerJson());
  changed["model"]["vocab"]["ab"] = 256;
  changed["added_tokens"][0]["content"] = "ab";
  changed["model"]["ignore_merges"] = true;
  REQUIRE_OK_AND_ASSIGN(const auto tokenizer, ParseTokenizer(changed.dump(), "t"));
  CHECK(*tokenizer->Encode("ab", kAsText) == Ids{'a', 'b'});
  CHECK(*tokenizer->Encode("ab", kParse) == Ids{256});
}

TEST_CASE("ParseTokenizer: garbage is refused without a crash", "[unit][text]") {
  const std::string valid = ByteTokenizerJson();
  CounterRandom random(11);
  for (int round = 0; round < 200; ++round) {
    std::string text = valid;
    for (int i = 0; i < 3; ++i) {
      text[random.Below(text.size())] = static_cast<char>(random.Below(256));
    }
    ParseTokenizer(text, "t").IgnoreError();
  }
  CHECK_FALSE(ParseTokenizer(std::string(100'000, '['), "t").ok());
  CHECK_FALSE(ParseTokenizer("", "t").ok());
  CHECK_FALSE(ParseTokenizer("[]", "t").ok());
}

TEST_CASE("LoadTokenizer: a missing file is named", "[unit][text]") {
  const testing::TempDir dir;
  const auto tokenizer = LoadTokenizer(dir.path().string());
  CHECK(Message(tokenizer.status()).find("tokenizer.json") != std::string::npos);
}

TEST_CASE("CheckTokenizerFits: both sizes are named", "[unit][text]") {
  const auto tokenizer = Bytes();
  CHECK(CheckTokenizerFits(*tokenizer, 257).ok());
  CHECK(CheckTokenizerFits(*tokenizer, 512).ok());
  const std::string message = Message(CheckTokenizerFits(*tokenizer, 256));
  CHECK(message.find("256, the model has embeddings for 256") != std::string::npos);
}

TEST_CASE("Byte-level alphabet: 256 characters, there and back", "[unit][text]") {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  const std::string encoded = EncodeByteLevel(all);
  CHECK(DecodeByteLevel(encoded) == all);
  CHECK(EncodeByteLevel(" ") == "Ġ");
  CHECK(EncodeByteLevel("\n") == "Ċ");
  CHECK_FALSE(DecodeByteLevel(" ").has_value());
  CHECK_FALSE(DecodeByteLevel("世").has_value());
}

TEST_CASE("UTF-8: ill-formed sequences", "[unit][text]") {
  for (const std::string bad : {"\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                                "\x80", "\xF5", "\xE2\x82", "\xFF"}) {
    CHECK(FindInvalidUtf8("a" + bad) == 1);
  }
  // As the reference: one U+FFFD for each maximal subpart.
  CHECK(ReplaceInvalidUtf8("\xE2\x82z\xF0\x9F\x98") == "\uFFFDz\uFFFD");
  CHECK(ReplaceInvalidUtf8("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");
  CHECK(FindInvalidUtf8("aé世😀") == 10);
}

TEST_CASE("TruncateUtf8: never cuts a character", "[unit][text]") {
  const std::string text = "aé世😀";
  const std::vector<size_t> kept = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
  for (size_t max = 0; max < kept.size(); ++max) {
    INFO(max);
    CHECK(TruncateUtf8(text, max).size() == kept[max]);
  }
}

TEST_CASE("TranslateOniguruma: rewrites classes and refuses what differs", "[unit][text]") {
  CHECK(*TranslateOniguruma(R"(\s+(?!\S)|\\s)") == R"(\p{White_Space}+(?!\P{White_Space})|\\s)");
  // Classes become what the reference's engine puts in them, whatever the age of PCRE2's data.
  const auto matches = [](std::string_view pattern, std::string_view text) {
    RegexOptions options;
    options.max_pattern_bytes = 1 << 20;
    const auto regex = Regex::Compile(*TranslateOniguruma(pattern), options);
    REQUIRE_OK(regex.status());
    return *RegexMatcher(*regex).Find(text, 0);
  };
  for (const std::string_view pattern : {R"(\p{L})", R"([\p{L}])", R"(\w)", R"([^\P{L}])",
                                         R"([^\W])", R"(\p{^N})", R"([\P{N}])", R"(\p{Lo})"}) {
    INFO(pattern);
    CHECK(matches(pattern, "\U00031350"));  // Unicode 15
    CHECK(matches(pattern, "\U000105C0"));  // Unicode 16
  }
  CHECK_FALSE(matches(R"(\P{L}|\W|[\P{L}]|[\W]|\p{N})", "\U000105C0"));
  CHECK(matches(R"(\w)", "\u00B2"));
  CHECK_FALSE(matches(R"(\w)", "\u200D"));
  CHECK(matches(R"(\p{Han})", "\u4E00"));
  CHECK_FALSE(matches(R"(\p{Han})", "\u3001"));
  for (const std::string bad : {R"(\h)", R"(\b)", R"([a[bc]])", R"([a&&b])", R"(\p{Emoji})",
                                R"(\pL)", R"(\)", "[a", "(*UTF)a", R"(\K)"}) {
    INFO(bad);
    CHECK(TranslateOniguruma(bad).status().code() == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("Regex: a match that costs too much is cut off", "[unit][text]") {
  RegexOptions options;
  options.match_limit = 10'000;
  REQUIRE_OK_AND_ASSIGN(const Regex regex, Regex::Compile("^(a+)+$", options));
  RegexMatcher matcher(regex);
  const auto found = matcher.Find(std::string(40, 'a') + "b", 0);
  CHECK(found.status().code() == StatusCode::kResourceExhausted);
  CHECK(*matcher.Find("aaa", 0));
  CHECK(matcher.group(1)->end == 3);
  CHECK_FALSE(matcher.group(2).has_value());
}

TEST_CASE("Regex: a malformed pattern names the place", "[unit][text]") {
  CHECK(Message(Regex::Compile("a(b", {}).status()).find("at byte 3") != std::string::npos);
  CHECK_FALSE(Regex::Compile(std::string(5000, 'a'), {}).ok());
  CHECK_FALSE(Regex::Compile("\xFF", {}).ok());
}

}  // namespace
}  // namespace rollcall
