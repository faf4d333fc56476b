#include "rollout_worker/serving/grammar_cache.h"

#include <memory>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace rollcall {
namespace {

constexpr int64_t kVocabSize = 257;
const std::vector<int32_t> kStops = {256};

GrammarCache MakeCache() { return {*ParseTokenizer(ByteTokenizerJson(), "test"), kVocabSize}; }

OutputConstraint Regex(const std::string& text) {
  return {OutputConstraint::Kind::kRegex, text, "guided_regex"};
}

OutputConstraint Schema(const std::string& text) {
  return {OutputConstraint::Kind::kJsonSchema, text, "response_format"};
}

// Whether the grammar lets `text` be written and ended.
bool Allows(const GrammarCache::Grammar& grammar, const std::string& text) {
  GrammarState state(grammar);
  for (const char c : text) {
    if (!state.Advance(static_cast<uint8_t>(c)).ok()) return false;
  }
  return state.CanEnd();
}

TEST_CASE("GrammarCache: one grammar for all who want the same") {
  GrammarCache cache = MakeCache();
  CHECK(cache.Find(Regex("a+b"), kStops) == nullptr);
  REQUIRE_OK_AND_ASSIGN(const GrammarCache::Grammar grammar, cache.Get(Regex("a+b"), kStops));
  CHECK(Allows(grammar, "aab"));
  CHECK_FALSE(Allows(grammar, "b"));
  CHECK(cache.Find(Regex("a+b"), kStops) == grammar);
  REQUIRE_OK_AND_ASSIGN(const GrammarCache::Grammar again, cache.Get(Regex("a+b"), kStops));
  CHECK(again == grammar);
  // Neither the field nor the order of stop tokens makes another grammar of it; their set does.
  OutputConstraint elsewhere = Regex("a+b");
  elsewhere.field = "regex";
  CHECK(cache.Find(elsewhere, kStops) == grammar);
  REQUIRE_OK_AND_ASSIGN(const GrammarCache::Grammar stops,
                        cache.Get(Regex("a+b"), std::vector<int32_t>{256, 10}));
  CHECK(stops != grammar);
  CHECK(cache.Find(Regex("a+b"), std::vector<int32_t>{10, 256, 10}) == stops);
  CHECK(cache.num_kept() == 2);
}

TEST_CASE("GrammarCache: a text is a grammar of its own in each kind") {
  GrammarCache cache = MakeCache();
  REQUIRE_OK_AND_ASSIGN(const GrammarCache::Grammar regex, cache.Get(Regex("true"), kStops));
  REQUIRE_OK_AND_ASSIGN(const GrammarCache::Grammar schema, cache.Get(Schema("true"), kStops));
  CHECK(Allows(regex, "true"));
  CHECK_FALSE(Allows(regex, "[1]"));
  CHECK(Allows(schema, "[1]"));
  const OutputConstraint object = {OutputConstraint::Kind::kJsonObject, "", "response_format"};
  REQUIRE_OK_AND_ASSIGN(const GrammarCache::Grammar any, cache.Get(object, kStops));
  CHECK(Allows(any, R"({"a": [1, {"b": null}]})"));
  CHECK_FALSE(Allows(any, "[1]"));
}

TEST_CASE("GrammarCache: what cannot be compiled is told by field and not kept") {
  GrammarCache cache = MakeCache();
  const Status regex = cache.Get(Regex("(a"), kStops).status();
  CHECK(regex.code() == StatusCode::kInvalidArgument);
  CHECK(Message(regex).find("'guided_regex': ") == 0);
  const Status schema = cache.Get(Schema(R"({"type": "object", "not": {}})"), kStops).status();
  CHECK(schema.code() == StatusCode::kInvalidArgument);
  CHECK(Message(schema).find("'response_format': ") == 0);
  CHECK(Message(schema).find("'not' is not supported") != std::string::npos);
  CHECK(cache.num_kept() == 0);
}

TEST_CASE("GrammarCache: the grammar that was used longest ago goes first") {
  GrammarCache cache = MakeCache();
  const auto text = [](size_t i) { return Regex("a{" + std::to_string(i + 1) + "}"); };
  for (size_t i = 0; i < GrammarCache::kMaxGrammars; ++i) {
    REQUIRE_OK(cache.Get(text(i), kStops).status());
  }
  CHECK(cache.num_kept() == GrammarCache::kMaxGrammars);
  REQUIRE_OK_AND_ASSIGN(const GrammarCache::Grammar first, cache.Get(text(0), kStops));
  REQUIRE_OK(cache.Get(text(GrammarCache::kMaxGrammars), kStops).status());
  CHECK(cache.num_kept() == GrammarCache::kMaxGrammars);
  CHECK(cache.Find(text(0), kStops) == first);
  CHECK(cache.Find(text(1), kStops) == nullptr);
  CHECK(cache.Find(text(2), kStops) != nullptr);
}

TEST_CASE("GrammarCache: what grammars have learnt counts, not only how many they are") {
  // Masks of a large vocabulary: a few thousand states take all that may be kept.
  constexpr int64_t kLarge = 1 << 18;
  GrammarCache cache(*ParseTokenizer(ByteTokenizerJson(), "test"), kLarge);
  const auto learn = [&](char letter) {
    const auto constraint = Regex(std::string(1, letter) + "{0,5000}");
    REQUIRE_OK_AND_ASSIGN(const GrammarCache::Grammar grammar, cache.Get(constraint, kStops));
    GrammarState state(grammar);
    std::vector<uint64_t> bits(kLarge / 64);
    // No mask is larger than what one grammar may keep, so they are a bounded number.
    for (int i = 0; i < 1800; ++i) {
      state.FillMask(bits);
      REQUIRE_OK(state.Advance(static_cast<uint8_t>(letter)));
    }
    return grammar->kept_bytes();
  };
  size_t bytes = 0;
  size_t num_grammars = 0;
  while (bytes <= GrammarCache::kMaxKeptBytes) {
    bytes += learn(static_cast<char>('a' + num_grammars++));
    REQUIRE(num_grammars < 26);
  }
  CHECK(cache.num_kept() == num_grammars);
  REQUIRE_OK(cache.Get(Regex("z"), kStops).status());
  CHECK(cache.num_kept() == num_grammars);
  CHECK(cache.Find(Regex("a{0,5000}"), kStops) == nullptr);
  CHECK(cache.Find(Regex("z"), kStops) != nullptr);
}

}  // namespace
}  // namespace rollcall
