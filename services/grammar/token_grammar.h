// A grammar over the tokens of a vocabulary: which of them may come next.
//
//   TokenGrammar (shared by all sequences) -> GrammarState (one per sequence):
//   FillMask -> a token is sampled -> Advance -> ... until a stop token
//
// Stop tokens are allowed exactly when the text so far is whole; any other token when its bytes
// are the begin of a text of the grammar. Masks are kept per state of the automaton, so they are
// computed once for all sequences; memory is bounded, what is over the bound is computed again.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"
#include "services/grammar/automaton.h"
#include "services/grammar/lazy_dfa.h"
#include "services/grammar/token_trie.h"

namespace rollcall {

class GrammarState;

// Thread-safe.
class TokenGrammar {
 public:
  // States and masks that are kept at most.
  static constexpr size_t kMaxKeptStates = 20'000;
  static constexpr size_t kMaxKeptMaskBytes = size_t{64} << 20;

  // Stop tokens outside the vocabulary are ignored.
  TokenGrammar(ByteAutomaton automaton, std::shared_ptr<const TokenTrie> tokens,
               std::span<const int32_t> stop_token_ids);

  int64_t vocab_size() const { return tokens_->vocab_size(); }
  size_t num_kept_states() const ABSL_LOCKS_EXCLUDED(mu_);
  // What was learnt takes about so much memory.
  size_t kept_bytes() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  friend class GrammarState;
  using Mask = std::vector<uint64_t>;

  bool is_stop(int32_t token) const;
  size_t mask_words() const { return (static_cast<size_t>(vocab_size()) + 63) / 64; }
  // Forgets what was learnt when it has become too much.
  void Bound() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  const Mask& MaskOf(const GrammarThreads& threads) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::shared_ptr<const GrammarThreads> Read(const GrammarThreads& threads,
                                             std::string_view bytes) const ABSL_LOCKS_EXCLUDED(mu_);

  const ByteAutomaton automaton_;
  const std::shared_ptr<const TokenTrie> tokens_;
  std::vector<int32_t> stop_token_ids_;  // ascending
  std::shared_ptr<const GrammarThreads> start_;

  mutable Mutex mu_;
  mutable std::unique_ptr<LazyDfa> dfa_ ABSL_GUARDED_BY(mu_);
  mutable std::unordered_map<int32_t, Mask> masks_ ABSL_GUARDED_BY(mu_);  // by state of the dfa
};

// Where one sequence is. A value; copies go their own ways. Not thread-safe.
class GrammarState {
 public:
  explicit GrammarState(std::shared_ptr<const TokenGrammar> grammar);

  // Sets the bits of the tokens that may come next, clears all others: bit t % 64 of word t / 64.
  // `bits` has (vocab_size + 63) / 64 words. After a stop token nothing is allowed. O(1) for a
  // state that was seen before, else O(bytes of the vocabulary).
  void FillMask(std::span<uint64_t> bits) const;
  // kInvalidArgument: the token is not allowed here; the state stays as it is.
  Status Advance(int32_t token);
  // The text is whole: a stop token may come.
  bool CanEnd() const { return !has_ended_ && threads_->can_end; }
  // The text is whole and nothing can be added to it.
  bool MustEnd() const { return CanEnd() && threads_->threads.empty(); }

 private:
  std::shared_ptr<const TokenGrammar> grammar_;
  std::shared_ptr<const GrammarThreads> threads_;
  bool has_ended_ = false;
};

}  // namespace rollcall
