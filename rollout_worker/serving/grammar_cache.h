// Grammars that requests of one served model ask for, compiled over the tokens of its vocabulary.
//
// A grammar is shared by all requests that want the same text with the same stop tokens, so that a
// mask is computed once for all of them. Those that were used last are kept, a bounded number and
// within bounded memory; requests that run hold theirs for themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "rollout_worker/serving/api/sampling_fields.h"
#include "services/base/status/status.h"
#include "services/base/sync/mutex.h"
#include "services/common/text/tokenizer.h"
#include "services/grammar/token_grammar.h"

namespace rollcall {

// Thread-safe.
class GrammarCache {
 public:
  using Grammar = std::shared_ptr<const TokenGrammar>;
  static constexpr size_t kMaxGrammars = 64;
  // Of the masks and states that all kept grammars hold when one is added.
  static constexpr size_t kMaxKeptBytes = size_t{512} << 20;

  GrammarCache(std::shared_ptr<const Tokenizer> tokenizer, int64_t vocab_size);

  // Null when it has to be compiled. Quick.
  Grammar Find(const OutputConstraint& constraint, std::span<const int32_t> stop_token_ids)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Compiles where needed: up to 0.1 s, the first time twice that (the tree of a large vocabulary's
  // tokens). kInvalidArgument names the field of the request, and says what is wrong or not
  // supported.
  StatusOr<Grammar> Get(const OutputConstraint& constraint, std::span<const int32_t> stop_token_ids)
      ABSL_LOCKS_EXCLUDED(mu_);

  size_t num_kept() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using Entry = std::pair<std::string, Grammar>;

  std::shared_ptr<const TokenTrie> Tokens() ABSL_LOCKS_EXCLUDED(tokens_mu_);
  Grammar Keep(const std::string& key, Grammar grammar) ABSL_LOCKS_EXCLUDED(mu_);

  const std::shared_ptr<const Tokenizer> tokenizer_;
  const int64_t vocab_size_;

  Mutex tokens_mu_;  // held while the tree is made; nobody needs it who does not compile
  std::shared_ptr<const TokenTrie> tokens_ ABSL_GUARDED_BY(tokens_mu_);  // null: not made yet

  mutable Mutex mu_;
  std::list<Entry> grammars_ ABSL_GUARDED_BY(mu_);  // used last first
  std::unordered_map<std::string, std::list<Entry>::iterator> places_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rollcall
