// A grammar as a network of automata over bytes that call each other: a pushdown automaton.
//
// A rule is a start and an end state; an edge reads a byte of a range, reads nothing, or calls a
// rule and goes on at its target when the rule has ended. Regular expressions are one rule; rules
// that call themselves are for nested documents.
//
//   AutomatonBuilder builder; builder.AddRule() ...; builder.AddByteEdge(...) ...;
//   builder.Finish(rule)
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

struct GrammarLimits {
  static constexpr size_t kMaxTextBytes = 64 << 10;  // of a regular expression or a schema
  static constexpr int kMaxNesting = 64;             // of groups or of schemas
  static constexpr int kMaxRepeats = 10'000;         // bound of one repetition
  static constexpr size_t kMaxStates = 100'000;      // of the automaton
  static constexpr size_t kMaxStackDepth = 96;       // calls that are open; deeper text is refused
  static constexpr size_t kMaxThreads = 1000;        // ways to read the text so far
};

// Immutable and thread-safe.
class ByteAutomaton {
 public:
  struct ByteEdge {
    uint8_t first = 0;
    uint8_t last = 0;  // inclusive
    int32_t target = 0;
  };
  struct CallEdge {
    int32_t rule = 0;
    int32_t target = 0;
  };
  struct State {
    std::vector<ByteEdge> bytes;
    std::vector<int32_t> empty;  // targets of edges that read nothing
    std::vector<CallEdge> calls;
    bool ends_rule = false;
  };

  const State& state(int32_t id) const { return states_[static_cast<size_t>(id)]; }
  int32_t start_of(int32_t rule) const { return starts_[static_cast<size_t>(rule)]; }
  int32_t root() const { return root_; }
  size_t num_states() const { return states_.size(); }

 private:
  friend class AutomatonBuilder;
  std::vector<State> states_;
  std::vector<int32_t> starts_;  // by rule
  int32_t root_ = 0;
};

class AutomatonBuilder {
 public:
  // A piece of a rule between two states.
  struct Piece {
    int32_t begin = 0;
    int32_t end = 0;
  };

  int32_t AddState();
  void AddByteEdge(int32_t from, uint8_t first, uint8_t last, int32_t to);
  void AddEmptyEdge(int32_t from, int32_t to);
  void AddCall(int32_t from, int32_t rule, int32_t to);

  // A rule whose body comes later, by SetBody.
  int32_t DeclareRule();
  void SetBody(int32_t rule, Piece body);

  Piece Empty();
  Piece Text(std::string_view bytes);
  Piece Call(int32_t rule);
  Piece Concatenate(Piece a, Piece b);
  Piece Alternatives(const std::vector<Piece>& pieces);
  Piece Optional(Piece piece);
  Piece AnyNumber(Piece piece);  // zero or more
  // `make` makes the piece once more, min to max times; max -1: without bound.
  Piece Repeat(const std::function<Piece()>& make, int min, int max);

  // More states than allowed were asked for; what is built from here on is not meant to be used.
  bool is_full() const { return states_.size() >= GrammarLimits::kMaxStates; }

  // kInvalidArgument: too many states; the root matches nothing; a rule calls itself before it
  // reads a byte.
  StatusOr<ByteAutomaton> Finish(int32_t root);

 private:
  void DropUnproductive();
  bool HasLeftRecursion() const;

  std::vector<ByteAutomaton::State> states_;
  std::vector<Piece> rules_;
};

}  // namespace rollcall
