// The automaton made deterministic, as far as texts have gone.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "services/grammar/automaton.h"

namespace rollcall {

// One way to read the text so far: states to return to, the current one last.
using GrammarThread = std::vector<int32_t>;

// All of them, in normal form: ascending, each in a state that reads a byte.
struct GrammarThreads {
  std::vector<GrammarThread> threads;
  bool can_end = false;  // the text is whole as it is
};

// States are numbered as they are met and never dropped: whoever owns one replaces it when it has
// grown too large. Not thread-safe.
class LazyDfa {
 public:
  static constexpr int32_t kDead = -1;
  // Its transitions, and some for its threads.
  static constexpr size_t kStateBytes = 256 * sizeof(int32_t) + 256;

  // The automaton is borrowed.
  explicit LazyDfa(const ByteAutomaton& automaton) : automaton_(automaton) {}

  static GrammarThreads Start(const ByteAutomaton& automaton);

  // The number of that set. Ways that are more than GrammarLimits allows are dropped, the deepest
  // first.
  int32_t Intern(GrammarThreads threads);
  // kDead when no text begins so.
  int32_t Next(int32_t state, uint8_t byte) {
    const int32_t known = states_[static_cast<size_t>(state)].next[byte];
    return known != kUnknown ? known : FindNext(state, byte);
  }
  const GrammarThreads& threads(int32_t state) const {
    return states_[static_cast<size_t>(state)].threads;
  }
  size_t size() const { return states_.size(); }

 private:
  static constexpr int32_t kUnknown = -2;
  struct State {
    GrammarThreads threads;
    std::array<int32_t, 256> next{};
  };

  int32_t FindNext(int32_t state, uint8_t byte);

  const ByteAutomaton& automaton_;
  std::vector<State> states_;
  std::unordered_map<std::string, int32_t> numbers_;
};

}  // namespace rollcall
