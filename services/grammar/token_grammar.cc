#include "services/grammar/token_grammar.h"

#include <algorithm>
#include <string>
#include <utility>

namespace rollcall {

TokenGrammar::TokenGrammar(ByteAutomaton automaton, std::shared_ptr<const TokenTrie> tokens,
                           std::span<const int32_t> stop_token_ids)
    : automaton_(std::move(automaton)),
      tokens_(std::move(tokens)),
      start_(std::make_shared<const GrammarThreads>(LazyDfa::Start(automaton_))),
      dfa_(std::make_unique<LazyDfa>(automaton_)) {
  for (const int32_t token : stop_token_ids) {
    if (token >= 0 && token < vocab_size()) stop_token_ids_.push_back(token);
  }
  std::sort(stop_token_ids_.begin(), stop_token_ids_.end());
}

bool TokenGrammar::is_stop(int32_t token) const {
  return std::binary_search(stop_token_ids_.begin(), stop_token_ids_.end(), token);
}

size_t TokenGrammar::num_kept_states() const {
  MutexLock lock(mu_);
  return dfa_->size();
}

size_t TokenGrammar::kept_bytes() const {
  MutexLock lock(mu_);
  return dfa_->size() * LazyDfa::kStateBytes + masks_.size() * mask_words() * sizeof(uint64_t);
}

void TokenGrammar::Bound() const {
  if (dfa_->size() <= kMaxKeptStates &&
      masks_.size() * mask_words() * sizeof(uint64_t) <= kMaxKeptMaskBytes) {
    return;
  }
  dfa_ = std::make_unique<LazyDfa>(automaton_);
  masks_.clear();
}

const TokenGrammar::Mask& TokenGrammar::MaskOf(const GrammarThreads& threads) const {
  Bound();
  const int32_t state = dfa_->Intern(threads);
  const auto [it, is_new] = masks_.try_emplace(state);
  Mask& mask = it->second;
  if (!is_new) return mask;
  mask.assign(mask_words(), 0);
  const auto set = [&mask](int32_t token) {
    mask[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
  };
  const std::span<const TokenTrie::Node> nodes = tokens_->nodes();
  const std::span<const int32_t> ids = tokens_->ids();
  std::vector<int32_t> path(TokenTrie::kMaxTokenBytes + 1, state);  // states by depth
  for (uint32_t n = 0; n < nodes.size();) {
    const TokenTrie::Node& node = nodes[n];
    const int32_t next = dfa_->Next(path[node.depth - 1], node.byte);
    if (next == LazyDfa::kDead) {
      n = node.end;
      continue;
    }
    path[node.depth] = next;
    for (uint32_t i = 0; i < node.num_ids; ++i) set(ids[node.first_id + i]);
    ++n;
  }
  // Stop tokens end the text, whatever their bytes are.
  for (const int32_t token : stop_token_ids_) {
    mask[static_cast<size_t>(token) / 64] &= ~(uint64_t{1} << (token % 64));
    if (threads.can_end) set(token);
  }
  return mask;
}

std::shared_ptr<const GrammarThreads> TokenGrammar::Read(const GrammarThreads& threads,
                                                         std::string_view bytes) const {
  MutexLock lock(mu_);
  Bound();
  int32_t state = dfa_->Intern(threads);
  for (const char byte : bytes) {
    state = dfa_->Next(state, static_cast<uint8_t>(byte));
    if (state == LazyDfa::kDead) return nullptr;
  }
  return std::make_shared<const GrammarThreads>(dfa_->threads(state));
}

GrammarState::GrammarState(std::shared_ptr<const TokenGrammar> grammar)
    : grammar_(std::move(grammar)), threads_(grammar_->start_) {}

void GrammarState::FillMask(std::span<uint64_t> bits) const {
  ROLLCALL_CHECK(bits.size() == grammar_->mask_words(), "a mask has one bit per token");
  if (has_ended_) {
    std::fill(bits.begin(), bits.end(), 0);
    return;
  }
  MutexLock lock(grammar_->mu_);
  const TokenGrammar::Mask& mask = grammar_->MaskOf(*threads_);
  std::copy(mask.begin(), mask.end(), bits.begin());
}

Status GrammarState::Advance(int32_t token) {
  if (token < 0 || token >= grammar_->vocab_size()) {
    return InvalidArgument("token " + std::to_string(token) + " is outside the vocabulary of " +
                           std::to_string(grammar_->vocab_size()));
  }
  if (grammar_->is_stop(token)) {
    if (!CanEnd()) return InvalidArgument("the text is not whole where it stops");
    has_ended_ = true;
    return OkStatus();
  }
  const std::string& bytes = grammar_->tokens_->bytes(token);
  std::shared_ptr<const GrammarThreads> next;
  if (!has_ended_ && !bytes.empty() && bytes.size() <= TokenTrie::kMaxTokenBytes) {
    next = grammar_->Read(*threads_, bytes);
  }
  if (next == nullptr) {
    return InvalidArgument("the grammar does not allow token " + std::to_string(token) + " here");
  }
  threads_ = std::move(next);
  return OkStatus();
}

}  // namespace rollcall
