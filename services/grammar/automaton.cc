#include "services/grammar/automaton.h"

#include <algorithm>
#include <utility>

namespace rollcall {

int32_t AutomatonBuilder::AddState() {
  // A full builder keeps handing out its last state, so that callers need no checks of their own.
  if (!is_full()) states_.emplace_back();
  return static_cast<int32_t>(states_.size()) - 1;
}

void AutomatonBuilder::AddByteEdge(int32_t from, uint8_t first, uint8_t last, int32_t to) {
  if (!is_full()) states_[static_cast<size_t>(from)].bytes.push_back({first, last, to});
}

void AutomatonBuilder::AddEmptyEdge(int32_t from, int32_t to) {
  if (!is_full()) states_[static_cast<size_t>(from)].empty.push_back(to);
}

void AutomatonBuilder::AddCall(int32_t from, int32_t rule, int32_t to) {
  if (!is_full()) states_[static_cast<size_t>(from)].calls.push_back({rule, to});
}

int32_t AutomatonBuilder::DeclareRule() {
  rules_.push_back({-1, -1});
  return static_cast<int32_t>(rules_.size()) - 1;
}

void AutomatonBuilder::SetBody(int32_t rule, Piece body) {
  rules_[static_cast<size_t>(rule)] = body;
}

AutomatonBuilder::Piece AutomatonBuilder::Empty() {
  const int32_t state = AddState();
  return {state, state};
}

AutomatonBuilder::Piece AutomatonBuilder::Text(std::string_view bytes) {
  Piece piece = Empty();
  for (const char byte : bytes) {
    const int32_t next = AddState();
    AddByteEdge(piece.end, static_cast<uint8_t>(byte), static_cast<uint8_t>(byte), next);
    piece.end = next;
  }
  return piece;
}

AutomatonBuilder::Piece AutomatonBuilder::Call(int32_t rule) {
  const Piece piece = {AddState(), AddState()};
  AddCall(piece.begin, rule, piece.end);
  return piece;
}

AutomatonBuilder::Piece AutomatonBuilder::Concatenate(Piece a, Piece b) {
  AddEmptyEdge(a.end, b.begin);
  return {a.begin, b.end};
}

AutomatonBuilder::Piece AutomatonBuilder::Alternatives(const std::vector<Piece>& pieces) {
  const Piece whole = {AddState(), AddState()};
  for (const Piece& piece : pieces) {
    AddEmptyEdge(whole.begin, piece.begin);
    AddEmptyEdge(piece.end, whole.end);
  }
  return whole;
}

AutomatonBuilder::Piece AutomatonBuilder::Optional(Piece piece) {
  return Alternatives({piece, Empty()});
}

AutomatonBuilder::Piece AutomatonBuilder::AnyNumber(Piece piece) {
  const int32_t hub = AddState();
  AddEmptyEdge(hub, piece.begin);
  AddEmptyEdge(piece.end, hub);
  // A state of its own at the end: what is appended must not be inside the loop.
  const Piece whole = {AddState(), AddState()};
  AddEmptyEdge(whole.begin, hub);
  AddEmptyEdge(hub, whole.end);
  return whole;
}

AutomatonBuilder::Piece AutomatonBuilder::Repeat(const std::function<Piece()>& make, int min,
                                                 int max) {
  Piece whole = Empty();
  for (int i = 0; i < min && !is_full(); ++i) whole = Concatenate(whole, make());
  if (max < 0) return Concatenate(whole, AnyNumber(make()));
  // Each of the rest may be the last; all leave for the same end.
  const int32_t end = AddState();
  AddEmptyEdge(whole.end, end);
  for (int i = min; i < max && !is_full(); ++i) {
    whole = Concatenate(whole, make());
    AddEmptyEdge(whole.end, end);
  }
  return {whole.begin, end};
}

// Takes out the edges to states from which no text ends the rule, so that whatever is allowed can
// be finished.
void AutomatonBuilder::DropUnproductive() {
  const size_t num_states = states_.size();
  // Who becomes productive when a state does, or when a rule's start does.
  std::vector<std::vector<int32_t>> before(num_states);
  std::vector<std::vector<int32_t>> callers(rules_.size());
  std::vector<std::vector<int32_t>> rules_at(num_states);
  std::vector<uint8_t> productive(num_states, 0);
  std::vector<int32_t> work;
  const auto mark = [&](int32_t id) {
    if (productive[static_cast<size_t>(id)] != 0) return;
    productive[static_cast<size_t>(id)] = 1;
    work.push_back(id);
  };
  const auto rule_works = [&](int32_t rule) {
    return productive[static_cast<size_t>(rules_[static_cast<size_t>(rule)].begin)] != 0;
  };
  for (size_t r = 0; r < rules_.size(); ++r) {
    rules_at[static_cast<size_t>(rules_[r].begin)].push_back(static_cast<int32_t>(r));
  }
  for (size_t s = 0; s < num_states; ++s) {
    const auto id = static_cast<int32_t>(s);
    for (const auto& edge : states_[s].bytes) {
      before[static_cast<size_t>(edge.target)].push_back(id);
    }
    for (const int32_t target : states_[s].empty) before[static_cast<size_t>(target)].push_back(id);
    for (const auto& call : states_[s].calls) {
      before[static_cast<size_t>(call.target)].push_back(id);
      callers[static_cast<size_t>(call.rule)].push_back(id);
    }
    if (states_[s].ends_rule) mark(id);
  }
  const auto check = [&](int32_t id) {
    const auto& state = states_[static_cast<size_t>(id)];
    const auto is_productive = [&](int32_t target) {
      return productive[static_cast<size_t>(target)] != 0;
    };
    const bool works = std::any_of(state.bytes.begin(), state.bytes.end(),
                                   [&](const auto& edge) { return is_productive(edge.target); }) ||
                       std::any_of(state.empty.begin(), state.empty.end(), is_productive) ||
                       std::any_of(state.calls.begin(), state.calls.end(), [&](const auto& call) {
                         return is_productive(call.target) && rule_works(call.rule);
                       });
    if (works) mark(id);
  };
  while (!work.empty()) {
    const auto id = static_cast<size_t>(work.back());
    work.pop_back();
    for (const int32_t other : before[id]) check(other);
    for (const int32_t rule : rules_at[id]) {
      for (const int32_t caller : callers[static_cast<size_t>(rule)]) check(caller);
    }
  }
  for (auto& state : states_) {
    const auto is_dead = [&](int32_t target) {
      return productive[static_cast<size_t>(target)] == 0;
    };
    std::erase_if(state.bytes, [&](const auto& edge) { return is_dead(edge.target); });
    std::erase_if(state.empty, is_dead);
    std::erase_if(state.calls,
                  [&](const auto& call) { return is_dead(call.target) || !rule_works(call.rule); });
  }
}

// A cycle of calls and empty edges in which at least one is a call.
bool AutomatonBuilder::HasLeftRecursion() const {
  // Rules that can end without reading anything.
  std::vector<uint8_t> nullable(rules_.size(), 0);
  std::vector<uint32_t> seen(states_.size(), 0);
  uint32_t round = 0;
  const auto reach = [&](int32_t start, const auto& visit_call) {
    ++round;
    std::vector<int32_t> work = {start};
    seen[static_cast<size_t>(start)] = round;
    bool ends = false;
    while (!work.empty()) {
      const auto& state = states_[static_cast<size_t>(work.back())];
      work.pop_back();
      ends = ends || state.ends_rule;
      const auto go = [&](int32_t target) {
        if (seen[static_cast<size_t>(target)] == round) return;
        seen[static_cast<size_t>(target)] = round;
        work.push_back(target);
      };
      for (const int32_t target : state.empty) go(target);
      for (const auto& call : state.calls) {
        visit_call(call.rule);
        if (nullable[static_cast<size_t>(call.rule)] != 0) go(call.target);
      }
    }
    return ends;
  };
  bool changed = true;
  while (changed) {
    changed = false;
    for (size_t r = 0; r < rules_.size(); ++r) {
      if (nullable[r] == 0 && reach(rules_[r].begin, [](int32_t) {})) {
        nullable[r] = 1;
        changed = true;
      }
    }
  }
  std::vector<std::vector<int32_t>> first_calls(rules_.size());
  for (size_t r = 0; r < rules_.size(); ++r) {
    reach(rules_[r].begin, [&](int32_t rule) { first_calls[r].push_back(rule); });
  }
  // Depth-first search for a cycle: 1 is on the path, 2 is done.
  std::vector<uint8_t> mark(rules_.size(), 0);
  for (size_t root = 0; root < rules_.size(); ++root) {
    if (mark[root] != 0) continue;
    std::vector<std::pair<size_t, size_t>> path = {{root, 0}};
    mark[root] = 1;
    while (!path.empty()) {
      auto& [rule, next] = path.back();
      if (next == first_calls[rule].size()) {
        mark[rule] = 2;
        path.pop_back();
        continue;
      }
      const auto callee = static_cast<size_t>(first_calls[rule][next++]);
      if (mark[callee] == 1) return true;
      if (mark[callee] == 0) {
        mark[callee] = 1;
        path.emplace_back(callee, 0);
      }
    }
  }
  return false;
}

StatusOr<ByteAutomaton> AutomatonBuilder::Finish(int32_t root) {
  if (is_full()) {
    return InvalidArgument("the grammar needs more than " +
                           std::to_string(GrammarLimits::kMaxStates) +
                           " states; lower the bounds of its repetitions");
  }
  for (const Piece& rule : rules_) {
    ROLLCALL_CHECK(rule.begin >= 0, "every declared rule has a body");
    states_[static_cast<size_t>(rule.end)].ends_rule = true;
  }
  DropUnproductive();
  const Piece& start = rules_[static_cast<size_t>(root)];
  const auto& first = states_[static_cast<size_t>(start.begin)];
  if (first.bytes.empty() && first.empty.empty() && first.calls.empty() && !first.ends_rule) {
    return InvalidArgument("the grammar matches nothing");
  }
  if (HasLeftRecursion()) {
    return InvalidArgument("the grammar refers to itself without reading anything before");
  }
  ByteAutomaton automaton;
  automaton.states_ = std::move(states_);
  for (const Piece& rule : rules_) automaton.starts_.push_back(rule.begin);
  automaton.root_ = root;
  states_.clear();
  rules_.clear();
  return automaton;
}

}  // namespace rollcall
