#include "rollout_worker/serving/grammar_cache.h"

#include <algorithm>
#include <vector>

#include "services/grammar/json_schema.h"
#include "services/grammar/regex.h"

namespace rollcall {
namespace {

StatusOr<ByteAutomaton> Compile(const OutputConstraint& constraint) {
  switch (constraint.kind) {
    case OutputConstraint::Kind::kRegex:
      return CompileRegex(constraint.text);
    case OutputConstraint::Kind::kJsonSchema:
      return CompileJsonSchema(constraint.text);
    case OutputConstraint::Kind::kJsonObject:
      return CompileJsonSchema(R"({"type": "object"})");
    case OutputConstraint::Kind::kNone:
      break;
  }
  return InvalidArgument("there is no grammar");
}

// The same for grammars that are the same, whatever field they came in.
std::string KeyOf(const OutputConstraint& constraint, std::span<const int32_t> stop_token_ids) {
  std::vector<int32_t> stops(stop_token_ids.begin(), stop_token_ids.end());
  std::sort(stops.begin(), stops.end());
  stops.erase(std::unique(stops.begin(), stops.end()), stops.end());
  std::string key = std::to_string(static_cast<int>(constraint.kind));
  for (const int32_t token : stops) key += "," + std::to_string(token);
  return key + ":" + constraint.text;
}

}  // namespace

GrammarCache::GrammarCache(std::shared_ptr<const Tokenizer> tokenizer, int64_t vocab_size)
    : tokenizer_(std::move(tokenizer)), vocab_size_(vocab_size) {}

GrammarCache::Grammar GrammarCache::Find(const OutputConstraint& constraint,
                                         std::span<const int32_t> stop_token_ids) {
  const std::string key = KeyOf(constraint, stop_token_ids);
  MutexLock lock(mu_);
  const auto place = places_.find(key);
  if (place == places_.end()) return nullptr;
  grammars_.splice(grammars_.begin(), grammars_, place->second);
  return place->second->second;
}

StatusOr<GrammarCache::Grammar> GrammarCache::Get(const OutputConstraint& constraint,
                                                  std::span<const int32_t> stop_token_ids) {
  if (Grammar known = Find(constraint, stop_token_ids)) return known;
  StatusOr<ByteAutomaton> automaton = Compile(constraint);
  if (!automaton.ok()) {
    return MakeStatus(automaton.status().code(),
                      "'" + constraint.field + "': " + Message(automaton.status()));
  }
  return Keep(
      KeyOf(constraint, stop_token_ids),
      std::make_shared<const TokenGrammar>(*std::move(automaton), Tokens(), stop_token_ids));
}

std::shared_ptr<const TokenTrie> GrammarCache::Tokens() {
  MutexLock lock(tokens_mu_);
  if (tokens_ == nullptr) {
    std::vector<std::string> bytes(static_cast<size_t>(vocab_size_));
    for (size_t t = 0; t < bytes.size(); ++t) {
      bytes[t] = tokenizer_->TokenBytes(static_cast<int32_t>(t));
    }
    tokens_ = std::make_shared<const TokenTrie>(bytes);
  }
  return tokens_;
}

GrammarCache::Grammar GrammarCache::Keep(const std::string& key, Grammar grammar) {
  std::vector<Grammar> kept;
  {
    MutexLock lock(mu_);
    // Somebody else was faster: all share one.
    if (const auto place = places_.find(key); place != places_.end()) return place->second->second;
    grammars_.emplace_front(key, grammar);
    places_[key] = grammars_.begin();
    for (const Entry& entry : grammars_) kept.push_back(entry.second);
  }
  // A grammar that is just computing a mask answers when that is done: not under the lock.
  size_t num_fitting = 0;
  for (size_t bytes = 0; num_fitting < std::min(kept.size(), kMaxGrammars); ++num_fitting) {
    bytes += kept[num_fitting]->kept_bytes();
    if (bytes > kMaxKeptBytes) break;
  }
  MutexLock lock(mu_);
  while (grammars_.size() > std::max<size_t>(num_fitting, 1)) {
    places_.erase(grammars_.back().first);
    grammars_.pop_back();
  }
  return grammar;
}

size_t GrammarCache::num_kept() const {
  MutexLock lock(mu_);
  return grammars_.size();
}

}  // namespace rollcall
