#include "services/grammar/token_grammar.h"

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/grammar/json_schema.h"
#include "services/grammar/regex.h"
#include "tests/support/catch.h"
#include "tests/unit/grammar/grammar_text.h"

namespace rollcall {
namespace {

constexpr int32_t kStop = 256;

// The bytes, a stop token, and pieces of text of several bytes; some tokens twice.
std::vector<std::string> Vocabulary() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.emplace_back("");
  for (const char* piece : {"{\"", "\": ", "\",", "ab", "abc", "12", "},", "[[", "]]", "true",
                            "nul", "\xC3\xA9", "\xA9x", "\\u00", "  ", "ab", "\"}", "name"}) {
    tokens.emplace_back(piece);
  }
  return tokens;
}

std::shared_ptr<const TokenGrammar> Grammar(ByteAutomaton automaton) {
  const std::vector<int32_t> stops = {kStop};
  return std::make_shared<TokenGrammar>(std::move(automaton),
                                        std::make_shared<TokenTrie>(Vocabulary()), stops);
}

std::vector<int32_t> Allowed(const GrammarState& state) {
  std::vector<uint64_t> bits((Vocabulary().size() + 63) / 64);
  state.FillMask(bits);
  std::vector<int32_t> allowed;
  for (int32_t token = 0; token < static_cast<int32_t>(64 * bits.size()); ++token) {
    if ((bits[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0) allowed.push_back(token);
  }
  return allowed;
}

ByteAutomaton Regex(std::string_view pattern) {
  REQUIRE_OK_AND_ASSIGN(ByteAutomaton automaton, CompileRegex(pattern));
  return automaton;
}

ByteAutomaton Schema(std::string_view schema) {
  REQUIRE_OK_AND_ASSIGN(ByteAutomaton automaton, CompileJsonSchema(schema));
  return automaton;
}

}  // namespace

TEST_CASE("TokenGrammar: worked by hand", "[unit][grammar]") {
  GrammarState state(Grammar(Regex("ab(c|c12)?")));
  CHECK(Allowed(state) == std::vector<int32_t>{'a', 260, 261, 272});  // a, ab, abc, ab
  CHECK(!state.CanEnd());
  CHECK(state.Advance('b').code() == StatusCode::kInvalidArgument);
  CHECK(state.Advance(kStop).code() == StatusCode::kInvalidArgument);
  CHECK(state.Advance(-1).code() == StatusCode::kInvalidArgument);
  REQUIRE_OK(state.Advance(261));
  CHECK(state.CanEnd());
  CHECK(!state.MustEnd());
  CHECK(Allowed(state) == std::vector<int32_t>{'1', kStop, 262});
  REQUIRE_OK(state.Advance(262));
  CHECK(state.MustEnd());
  CHECK(Allowed(state) == std::vector<int32_t>{kStop});
  REQUIRE_OK(state.Advance(kStop));
  CHECK(Allowed(state).empty());
  CHECK(!state.Advance(kStop).ok());
}

TEST_CASE("TokenGrammar: masks are the tokens that Advance takes", "[unit][grammar]") {
  CounterRandom random(8);
  for (const ByteAutomaton& automaton :
       {Schema("{}"), Regex("(ab|[^a]{1,3}){2,4}"),
        Schema(R"({"properties": {"name": {"type": "string", "maxLength": 5}}})")}) {
    const auto grammar = Grammar(automaton);
    for (int round = 0; round < 20; ++round) {
      GrammarState state(grammar);
      std::string text;
      for (int step = 0; step < 40; ++step) {
        const std::vector<int32_t> allowed = Allowed(state);
        REQUIRE(!allowed.empty());  // whatever was begun can be finished
        if (step % 8 == 0) {
          for (int32_t token = 0; token < static_cast<int32_t>(Vocabulary().size()); ++token) {
            GrammarState copy = state;
            const bool taken = copy.Advance(token).ok();
            REQUIRE(taken == std::binary_search(allowed.begin(), allowed.end(), token));
          }
        }
        REQUIRE(std::binary_search(allowed.begin(), allowed.end(), kStop) == state.CanEnd());
        const int32_t token = allowed[random.Below(allowed.size())];
        REQUIRE_OK(state.Advance(token));
        if (token == kStop) {
          REQUIRE(testing::Accepts(automaton, text));
          break;
        }
        text += Vocabulary()[token];
      }
    }
  }
}

TEST_CASE("TokenGrammar: every text of the grammar can be written, token by token",
          "[unit][grammar]") {
  CounterRandom random(9);
  const ByteAutomaton automaton = Schema(
      R"({"$defs": {"t": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/t"},
          {"type": "string"}, {"type": "boolean"}, {"type": "null"}]}}}, "$ref": "#/$defs/t"})");
  const auto grammar = Grammar(automaton);
  const std::vector<std::string> vocabulary = Vocabulary();
  int written = 0;
  for (int round = 0; round < 200; ++round) {
    const auto text = testing::RandomText(automaton, 300, &random);
    if (!text) continue;
    ++written;
    GrammarState state(grammar);
    for (size_t at = 0; at < text->size();) {
      // Any token that fits, longer ones too.
      std::vector<int32_t> fitting;
      for (int32_t token = 0; token < static_cast<int32_t>(vocabulary.size()); ++token) {
        const std::string& bytes = vocabulary[token];
        if (!bytes.empty() && text->compare(at, bytes.size(), bytes) == 0) fitting.push_back(token);
      }
      const int32_t token = fitting[random.Below(fitting.size())];
      REQUIRE_OK(state.Advance(token));
      at += vocabulary[token].size();
    }
    REQUIRE(state.CanEnd());
    REQUIRE_OK(state.Advance(kStop));
  }
  CHECK(written > 50);
}

TEST_CASE("TokenGrammar: nesting is bounded, and what is open can be closed", "[unit][grammar]") {
  const auto grammar = Grammar(Schema("{}"));
  GrammarState state(grammar);
  size_t depth = 0;
  while (depth < 1000 && state.Advance('[').ok()) ++depth;
  CHECK(depth >= 30);
  CHECK(depth <= GrammarLimits::kMaxStackDepth);
  for (size_t i = 0; i < depth; ++i) REQUIRE_OK(state.Advance(']'));
  CHECK(state.MustEnd());
}

TEST_CASE("TokenGrammar: many threads and a full memory change nothing", "[unit][grammar]") {
  const auto grammar = Grammar(Schema("{}"));
  // Every thread walks its own way; all must see what a grammar of their own would say.
  const auto walk = [](const std::shared_ptr<const TokenGrammar>& shared, uint64_t key) {
    CounterRandom random(key);
    std::vector<std::vector<int32_t>> masks;
    for (int round = 0; round < 6; ++round) {
      GrammarState state(shared);
      for (int step = 0; step < 60; ++step) {
        masks.push_back(Allowed(state));
        const int32_t token = masks.back()[random.Below(masks.back().size())];
        if (token == kStop || !state.Advance(token).ok()) break;
      }
    }
    return masks;
  };
  std::vector<std::vector<std::vector<int32_t>>> seen(4);
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < seen.size(); ++t) {
      threads.emplace_back([&, t] { seen[t] = walk(grammar, t); });
    }
  }
  for (size_t t = 0; t < seen.size(); ++t) {
    CHECK(seen[t] == walk(Grammar(Schema("{}")), t));
  }
  CHECK(grammar->num_kept_states() <= 2 * TokenGrammar::kMaxKeptStates);
}

}  // namespace rollcall
