// What a tokenizer.json may not say, and how it is named.
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "services/base/runtime/random.h"
#include "services/common/text/byte_level.h"
#include "services/common/text/tokenizer.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;
constexpr auto kAsText = Tokenizer::SpecialTokens::kAsText;
constexpr auto kParse = Tokenizer::SpecialTokens::kParse;

Json Bytes() { return Json::parse(ByteTokenizerJson()); }

Json UnigramFile() {
  Json file = Bytes();
  file["model"] = {{"type", "Unigram"},
                   {"unk_id", 0},
                   {"byte_fallback", false},
                   {"vocab", Json::array({{"<unk>", 0.0},
                                          {"</s>", 0.0},
                                          {"a", -1.0},
                                          {"ab", -1.5},
                                          {"<", -3.0},
                                          {"/", -3.0},
                                          {"s", -3.0},
                                          {">", -3.0}})}};
  file["added_tokens"] = Json::array({{{"id", 1}, {"content", "</s>"}, {"special", true}}});
  file["pre_tokenizer"] = nullptr;
  file["decoder"] = {{"type", "Fuse"}};
  return file;
}

std::string Refused(Json file, const std::string& pointer, const Json& value) {
  file[Json::json_pointer(pointer)] = value;
  const auto tokenizer = ParseTokenizer(file.dump(), "t");
  CHECK(tokenizer.status().code() == StatusCode::kInvalidArgument);
  return Message(tokenizer.status());
}

#define CHECK_NAMES(message, text)                   \
  do {                                               \
    const std::string rollcall_message = (message);  \
    INFO(rollcall_message);                          \
    CHECK(rollcall_message.starts_with("t: " text)); \
  } while (false)

TEST_CASE("tokenizer.json: errors name the key of the model", "[unit][text]") {
  const Json file = Bytes();
  CHECK_NAMES(Refused(file, "/surprise", 1), "tokenizer: key 'surprise'");
  CHECK_NAMES(Refused(file, "/model", 1), "model: is not an object");
  CHECK_NAMES(Refused(file, "/model/type", "Phoneme"), "model.type: \"Phoneme\" is not supported");
  CHECK_NAMES(Refused(file, "/model/surprise", 1), "model: key 'surprise'");
  CHECK_NAMES(Refused(file, "/model/dropout", 0.1), "model.dropout: 0.1");
  CHECK_NAMES(Refused(file, "/model/byte_fallback", 1),
              "model: byte_fallback is not true or false");
  CHECK_NAMES(Refused(file, "/model/unk_token", "<x>"),
              "model.unk_token: \"<x>\" is not in model.vocab");
  CHECK_NAMES(Refused(file, "/model/vocab", Json::array()), "model.vocab: is not an object");
  CHECK_NAMES(Refused(file, "/model/vocab/a", 98), "model.vocab: id 98 is given twice");
  CHECK_NAMES(Refused(file, "/model/vocab/a", -1), "model.vocab: id -1 is not in");
  CHECK_NAMES(Refused(file, "/model/vocab/a", 1e9), "model.vocab: id 1000000000.0");
  CHECK_NAMES(Refused(file, "/model/merges", 1), "model.merges: is not a list");
  CHECK_NAMES(Refused(file, "/model/merges", Json::array({"a b c"})), "model.merges[0]");
  CHECK_NAMES(Refused(file, "/model/merges", Json::array({"a b"})),
              "model.merges[0]: 'ab' is not in model.vocab");
  CHECK_NAMES(Refused(UnigramFile(), "/model/unk_id", 8), "model: unk_id: 8 is not in [0, 8)");
  CHECK_NAMES(Refused(UnigramFile(), "/model/vocab/2", Json::array({"a"})), "model.vocab[2]");
  CHECK_NAMES(Refused(UnigramFile(), "/model/vocab", Json::object()), "model.vocab: is not a list");
}

TEST_CASE("tokenizer.json: errors name the key of a step", "[unit][text]") {
  const Json file = Bytes();
  const auto sequence = [](const char* list, const Json& step) {
    return Json{{"type", "Sequence"}, {list, Json::array({step})}};
  };
  CHECK_NAMES(Refused(file, "/normalizer", {{"type", "NFX"}}),
              "normalizer: {\"type\":\"NFX\"} is not");
  CHECK_NAMES(Refused(file, "/normalizer", sequence("normalizers", {{"type", "Prepend"}})),
              "normalizer.normalizers[0]: prepend is missing");
  CHECK_NAMES(
      Refused(file, "/normalizer", {{"type", "Precompiled"}, {"precompiled_charsmap", "AAA"}}),
      "normalizer: precompiled_charsmap is not base64 at byte 3");
  CHECK_NAMES(
      Refused(file, "/normalizer", {{"type", "Precompiled"}, {"precompiled_charsmap", "/////w=="}}),
      "normalizer: precompiled_charsmap has 4 bytes, but says");
  CHECK_NAMES(Refused(file, "/normalizer",
                      {{"type", "Replace"}, {"pattern", {{"Regex", "(a"}}}, {"content", ""}}),
              "normalizer.pattern: pattern '(a'");
  CHECK_NAMES(Refused(file, "/normalizer",
                      {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", ""}}),
              "normalizer.pattern: an empty pattern");
  CHECK_NAMES(Refused(file, "/pre_tokenizer", {{"type", "UnicodeScripts"}}),
              "pre_tokenizer: {\"type\":\"UnicodeScripts\"} is not supported");
  CHECK_NAMES(Refused(file, "/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "ab"}}),
              "pre_tokenizer: replacement is not one character");
  CHECK_NAMES(Refused(file, "/pre_tokenizer",
                      sequence("pretokenizers", {{"type", "Split"},
                                                 {"pattern", {{"Regex", "[a[b]]"}}},
                                                 {"behavior", "Isolated"}})),
              "pre_tokenizer.pretokenizers[0].pattern: pattern '[a[b]]'");
  CHECK_NAMES(Refused(file, "/pre_tokenizer",
                      {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Gone"}}),
              "pre_tokenizer.behavior: \"Gone\"");
  CHECK_NAMES(Refused(file, "/decoder", {{"type", "CTC"}}), "decoder: {\"type\":\"CTC\"} is not");
  CHECK_NAMES(Refused(file, "/decoder", {{"type", "Strip"}, {"content", " "}, {"start", -1}}),
              "decoder: start: -1");
  CHECK_NAMES(Refused(file, "/post_processor",
                      {{"type", "TemplateProcessing"},
                       {"single", Json::array({{{"SpecialToken", {{"id", "<s>"}}}}})},
                       {"special_tokens", Json::object()}}),
              "post_processor.single[0]: '<s>' is not in special_tokens");
  CHECK_NAMES(Refused(file, "/post_processor",
                      {{"type", "BertProcessing"}, {"cls", {"a", 97}}, {"sep", {"b", 300}}}),
              "post_processor: id 300 is not in the vocabulary of 257");
  Json deep = nullptr;
  for (int i = 0; i < 20; ++i) deep = sequence("normalizers", deep);
  CHECK_NAMES(Refused(file, "/normalizer", deep), "nested deeper than 32");
  CHECK_NAMES(Refused(file, "/normalizer",
                      {{"type", "Sequence"}, {"normalizers", Json(65, {{"type", "NFC"}})}}),
              "normalizer: normalizers is not a list of at most 64");
}

TEST_CASE("tokenizer.json: errors name the added token", "[unit][text]") {
  const Json file = Bytes();
  CHECK_NAMES(Refused(file, "/added_tokens/0/id", 300),
              "added_tokens[0]: '<|endoftext|>' has id 300, expected 256");
  CHECK_NAMES(Refused(file, "/added_tokens/0/content", ""), "added_tokens[0]: content");
  CHECK_NAMES(Refused(file, "/added_tokens/0/lstrip", "yes"), "added_tokens[0]: lstrip");
  Json lower = file;
  lower["normalizer"] = {{"type", "Lowercase"}};
  const auto token = [](int id, const char* content) {
    return Json{{"id", id}, {"content", content}, {"normalized", true}};
  };
  CHECK_NAMES(
      Refused(lower, "/added_tokens", Json::array({token(256, "Tool"), token(257, "tool")})),
      "added_tokens[1]: 'tool' is the same as another one when normalized");
}

TEST_CASE("Encode: text never becomes a special token of the vocabulary", "[unit][text]") {
  REQUIRE_OK_AND_ASSIGN(const auto unigram, ParseTokenizer(UnigramFile().dump(), "t"));
  CHECK(*unigram->Encode("ab</s>", kParse) == Ids{3, 1});
  CHECK(*unigram->Encode("ab</s>", kAsText) == Ids{3, 4, 5, 6, 7});
  // Not by way of a normalizer either.
  Json file = UnigramFile();
  file["normalizer"] = {{"type", "NFKC"}};
  REQUIRE_OK_AND_ASSIGN(const auto compatible, ParseTokenizer(file.dump(), "t"));
  CHECK(*compatible->Encode("ab＜/s＞", kParse) == Ids{3, 4, 5, 6, 7});

  Json bpe = Bytes();
  bpe["model"]["vocab"]["ab"] = 256;
  bpe["added_tokens"][0]["content"] = "ab";
  bpe["model"]["merges"] = Json::array({"a b"});
  REQUIRE_OK_AND_ASSIGN(const auto merged, ParseTokenizer(bpe.dump(), "t"));
  CHECK(*merged->Encode("ab", kAsText) == Ids{'a', 'b'});
  CHECK(*merged->Encode("ab", kParse) == Ids{256});
}

TEST_CASE("Encode: what has no token is left out, or an error where the model says so",
          "[unit][text]") {
  Json bpe = Bytes();
  bpe["model"]["vocab"].erase("Ġ");
  bpe["added_tokens"] = Json::array();
  REQUIRE_OK_AND_ASSIGN(const auto without_space, ParseTokenizer(bpe.dump(), "t"));
  CHECK(*without_space->Encode("a b", kAsText) == Ids{'a', 'b'});
  Json unigram = UnigramFile();
  unigram["model"]["unk_id"] = nullptr;
  REQUIRE_OK_AND_ASSIGN(const auto no_unknown, ParseTokenizer(unigram.dump(), "t"));
  CHECK(Message(no_unknown->Encode("aé", kAsText).status()).starts_with("'é' has no token"));
}

TEST_CASE("Encode: a normalizer that grows without end is stopped", "[unit][text]") {
  Json file = Bytes();
  const Json doubles = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json(60, doubles)}};
  REQUIRE_OK_AND_ASSIGN(const auto tokenizer, ParseTokenizer(file.dump(), "t"));
  CHECK(tokenizer->Encode("aaa", kAsText).status().code() == StatusCode::kResourceExhausted);
  CHECK(*tokenizer->Encode("b", kAsText) == Ids{'b'});
}

TEST_CASE("Detokenizer: nothing comes before it is final", "[unit][text]") {
  REQUIRE_OK_AND_ASSIGN(const auto tokenizer, ParseTokenizer(ByteTokenizerJson(), "t"));
  const auto text = tokenizer->NewDetokenizer(Tokenizer::Skip::kSpecial);
  CHECK(*text->Push('a') == "a");
  CHECK(text->Push(0xF0)->empty());
  CHECK(text->Push(0x9F)->empty());
  CHECK(text->Push(0x91)->empty());
  CHECK(*text->Push(0x8D) == "👍");
  CHECK(text->Push(256)->empty());
  CHECK_FALSE(text->Push(257).ok());
  CHECK(text->Push(0xE4)->empty());
  CHECK(*text->Push('b') == "\uFFFDb");
  CHECK(text->Push(0xE4)->empty());
  CHECK(*text->Finish() == "\uFFFD");
  CHECK(*text->Push('c') == "c");
}

TEST_CASE("tokenizer.json: damaged files are refused or work, never crash", "[unit][text]") {
  CounterRandom random(11);
  for (const std::string& valid : {ByteTokenizerJson(), UnigramFile().dump()}) {
    for (int round = 0; round < 300; ++round) {
      std::string text = valid;
      for (int i = 0; i < 3; ++i) {
        text[random.Below(text.size())] = static_cast<char>(random.Below(256));
      }
      const auto tokenizer = ParseTokenizer(text, "t");
      if (!tokenizer.ok()) continue;
      const auto ids = (*tokenizer)->Encode("a </s> aé<|endoftext|>", kParse);
      if (ids.ok()) CHECK((*tokenizer)->Decode(*ids, Tokenizer::Skip::kNothing).ok());
    }
  }
}

}  // namespace
}  // namespace rollcall
