#include "services/grammar/lazy_dfa.h"

#include <algorithm>
#include <set>
#include <utility>

namespace rollcall {
namespace {

// Follows what reads nothing. Deterministic; ways that are too deep or too many are dropped.
GrammarThreads Close(const ByteAutomaton& automaton, std::vector<GrammarThread> work) {
  GrammarThreads closed;
  std::set<GrammarThread> seen(work.begin(), work.end());
  const auto go = [&](GrammarThread thread) {
    if (seen.size() > 4 * GrammarLimits::kMaxThreads) return;
    if (seen.insert(thread).second) work.push_back(std::move(thread));
  };
  while (!work.empty()) {
    GrammarThread thread = std::move(work.back());
    work.pop_back();
    const ByteAutomaton::State& state = automaton.state(thread.back());
    if (state.ends_rule) {
      if (thread.size() == 1) {
        closed.can_end = true;
      } else {
        GrammarThread returned = thread;
        returned.pop_back();
        go(std::move(returned));
      }
    }
    for (const int32_t target : state.empty) {
      GrammarThread moved = thread;
      moved.back() = target;
      go(std::move(moved));
    }
    if (thread.size() <= GrammarLimits::kMaxStackDepth) {
      for (const ByteAutomaton::CallEdge& call : state.calls) {
        GrammarThread called = thread;
        called.back() = call.target;
        called.push_back(automaton.start_of(call.rule));
        go(std::move(called));
      }
    }
    if (!state.bytes.empty()) closed.threads.push_back(std::move(thread));
  }
  std::sort(closed.threads.begin(), closed.threads.end());
  if (closed.threads.size() > GrammarLimits::kMaxThreads) {
    closed.threads.resize(GrammarLimits::kMaxThreads);
  }
  return closed;
}

std::string Key(const GrammarThreads& threads) {
  std::string key(1, threads.can_end ? '1' : '0');
  for (const GrammarThread& thread : threads.threads) {
    const auto size = static_cast<int32_t>(thread.size());
    key.append(reinterpret_cast<const char*>(&size), sizeof(size));
    key.append(reinterpret_cast<const char*>(thread.data()), thread.size() * sizeof(int32_t));
  }
  return key;
}

}  // namespace

GrammarThreads LazyDfa::Start(const ByteAutomaton& automaton) {
  return Close(automaton, {{automaton.start_of(automaton.root())}});
}

int32_t LazyDfa::Intern(GrammarThreads threads) {
  const auto [it, is_new] =
      numbers_.try_emplace(Key(threads), static_cast<int32_t>(states_.size()));
  if (is_new) {
    State& state = states_.emplace_back();
    state.threads = std::move(threads);
    state.next.fill(kUnknown);
  }
  return it->second;
}

int32_t LazyDfa::FindNext(int32_t state, uint8_t byte) {
  std::vector<GrammarThread> moved;
  for (const GrammarThread& thread : threads(state).threads) {
    for (const ByteAutomaton::ByteEdge& edge : automaton_.state(thread.back()).bytes) {
      if (byte < edge.first || byte > edge.last) continue;
      moved.push_back(thread);
      moved.back().back() = edge.target;
    }
  }
  std::sort(moved.begin(), moved.end());
  moved.erase(std::unique(moved.begin(), moved.end()), moved.end());
  int32_t next = kDead;
  if (!moved.empty()) {
    GrammarThreads closed = Close(automaton_, std::move(moved));
    if (closed.can_end || !closed.threads.empty()) next = Intern(std::move(closed));
  }
  states_[static_cast<size_t>(state)].next[byte] = next;
  return next;
}

}  // namespace rollcall
