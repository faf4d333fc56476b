// Texts against automata, byte by byte.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "services/base/runtime/random.h"
#include "services/grammar/automaton.h"
#include "services/grammar/lazy_dfa.h"

namespace rollcall::testing {

// Whether the whole text is one of the grammar.
inline bool Accepts(const ByteAutomaton& automaton, std::string_view text) {
  LazyDfa dfa(automaton);
  int32_t state = dfa.Intern(LazyDfa::Start(automaton));
  for (const char byte : text) {
    state = dfa.Next(state, static_cast<uint8_t>(byte));
    if (state == LazyDfa::kDead) return false;
  }
  return dfa.threads(state).can_end;
}

// A text of the grammar by a random walk that prefers to end; nothing when it did not end within
// max_bytes.
inline std::optional<std::string> RandomText(const ByteAutomaton& automaton, size_t max_bytes,
                                             CounterRandom* random) {
  LazyDfa dfa(automaton);
  int32_t state = dfa.Intern(LazyDfa::Start(automaton));
  std::string text;
  while (text.size() <= max_bytes) {
    std::string next;
    for (int byte = 0; byte < 256; ++byte) {
      if (dfa.Next(state, static_cast<uint8_t>(byte)) != LazyDfa::kDead) {
        next.push_back(static_cast<char>(byte));
      }
    }
    if (dfa.threads(state).can_end && (next.empty() || random->Below(4) == 0)) return text;
    if (next.empty()) return std::nullopt;
    // What closes things is preferred, or nested documents would never end.
    char byte = next[random->Below(next.size())];
    for (const char closing : std::string_view("]}\"")) {
      if (next.find(closing) != std::string::npos && random->Below(3) == 0) byte = closing;
    }
    text.push_back(byte);
    state = dfa.Next(state, static_cast<uint8_t>(byte));
  }
  return std::nullopt;
}

}  // namespace rollcall::testing
