// Grammars: a regular expression or a JSON schema is refused with a reason or compiles within its
// limits; what is begun under it can go on, and a mask allows what Advance takes.
#include <memory>
#include <string>
#include <vector>

#include "services/grammar/json_schema.h"
#include "services/grammar/regex.h"
#include "services/grammar/token_grammar.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using rollcall::fuzz::Require;
  if (size == 0) return 0;
  const std::string_view text = rollcall::fuzz::Text(data + 1, size - 1);
  auto automaton =
      data[0] == 'r' ? rollcall::CompileRegex(text) : rollcall::CompileJsonSchema(text);
  if (!automaton.ok()) return 0;
  static const auto tokens = [] {
    std::vector<std::string> bytes;
    for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, static_cast<char>(byte));
    bytes.emplace_back("");
    return std::make_shared<const rollcall::TokenTrie>(bytes);
  }();
  constexpr int32_t kStop = 256;
  const std::vector<int32_t> stops = {kStop};
  rollcall::GrammarState state(
      std::make_shared<rollcall::TokenGrammar>(*std::move(automaton), tokens, stops));
  std::vector<uint64_t> bits(5);
  uint32_t choice = 0;
  for (int step = 0; step < 24; ++step) {
    state.FillMask(bits);
    Require((bits[4] & 1) == (state.CanEnd() ? 1 : 0));
    std::vector<int32_t> allowed;
    for (int32_t token = 0; token <= kStop; ++token) {
      if ((bits[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0)
        allowed.push_back(token);
    }
    // Nothing is a dead end, but where it is too deep or has too many ways.
    if (allowed.empty()) return 0;
    choice = choice * 31 + data[static_cast<size_t>(step) % size];
    const int32_t token = allowed[choice % allowed.size()];
    Require(state.Advance(token).ok());
    if (token == kStop) return 0;
  }
  return 0;
}
