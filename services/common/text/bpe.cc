#include "services/common/text/bpe.h"

#include <queue>
#include <unordered_set>

#include "services/common/text/byte_level.h"

namespace rollcall {
namespace {

struct Candidate {
  int32_t rank;
  int32_t position;  // of the left symbol
  int32_t id;        // what the pair becomes
  // Lowest rank first, then leftmost.
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

struct Symbol {
  int32_t id;
  int32_t previous;
  int32_t next;
};

constexpr int32_t kDead = -1;

std::string Shown(std::string_view bytes) { return "'" + EncodeByteLevel(bytes) + "'"; }

}  // namespace

StatusOr<Bpe> Bpe::Create(BpeOptions options) {
  Bpe bpe;
  const auto find = [&](const std::string& token) {
    const auto it = options.vocab.find(token);
    return it == options.vocab.end() ? kDead : it->second;
  };
  for (int byte = 0; byte < 256; ++byte) {
    const std::string token(1, static_cast<char>(byte));
    bpe.byte_ids_[byte] = find(token);
    if (bpe.byte_ids_[byte] < 0) {
      return InvalidArgument("model.vocab: byte " + std::to_string(byte) + " has no token (" +
                             Shown(token) + " in the byte-level alphabet)");
    }
  }
  for (const auto& [bytes, id] : options.vocab) {
    if (static_cast<size_t>(id) >= bpe.num_bytes_.size()) bpe.num_bytes_.resize(id + 1);
    bpe.num_bytes_[id] = static_cast<uint32_t>(bytes.size());
  }
  const std::unordered_set<int32_t> forbidden(options.forbidden_ids.begin(),
                                              options.forbidden_ids.end());
  bpe.merges_.reserve(options.merges.size());
  for (size_t rank = 0; rank < options.merges.size(); ++rank) {
    const auto& [left, right] = options.merges[rank];
    const int32_t left_id = find(left);
    const int32_t right_id = find(right);
    const int32_t merged_id = find(left + right);
    const auto where = [&] { return "model.merges[" + std::to_string(rank) + "]: "; };
    if (left_id < 0 || right_id < 0 || merged_id < 0) {
      const std::string& missing = left_id < 0 ? left : right_id < 0 ? right : left + right;
      return InvalidArgument(where() + Shown(missing) + " is not in model.vocab");
    }
    if (forbidden.contains(merged_id)) {
      return InvalidArgument(where() + "makes the special token " + Shown(left + right) +
                             ", which plain text must not become");
    }
    // A repeated pair takes the later rank, as the reference does.
    bpe.merges_[PairKey(left_id, right_id)] = {static_cast<int32_t>(rank), merged_id};
  }
  if (options.ignore_merges) {
    for (const int32_t id : forbidden) {
      std::erase_if(options.vocab, [&](const auto& entry) { return entry.second == id; });
    }
    bpe.words_ = std::move(options.vocab);
  }
  return bpe;
}

void Bpe::Encode(std::string_view word, std::vector<int32_t>* ids) const {
  if (word.empty()) return;
  if (!words_.empty()) {
    const auto it = words_.find(std::string(word));
    if (it != words_.end()) {
      ids->push_back(it->second);
      return;
    }
  }
  if (merges_.empty()) {
    for (const char c : word) ids->push_back(byte_ids_[static_cast<uint8_t>(c)]);
    return;
  }

  const auto size = static_cast<int32_t>(word.size());
  std::vector<Symbol> symbols(word.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto propose = [&](int32_t left) {
    const int32_t right = left < 0 ? kDead : symbols[left].next;
    if (right < 0) return;
    const auto it = merges_.find(PairKey(symbols[left].id, symbols[right].id));
    if (it != merges_.end()) queue.push({it->second.rank, left, it->second.id});
  };
  for (int32_t i = 0; i < size; ++i) {
    symbols[i] = {byte_ids_[static_cast<uint8_t>(word[i])], i - 1, i + 1 < size ? i + 1 : kDead};
  }
  for (int32_t i = 0; i < size; ++i) propose(i);

  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[top.position];
    if (left.id == kDead || left.next == kDead) continue;
    // Symbols only grow, so a pair that changed since it was queued makes another token.
    Symbol& right = symbols[left.next];
    const auto it = merges_.find(PairKey(left.id, right.id));
    if (it == merges_.end() || it->second.id != top.id) continue;
    left.id = top.id;
    left.next = right.next;
    if (right.next != kDead) symbols[right.next].previous = top.position;
    right.id = kDead;
    propose(left.previous);
    propose(top.position);
  }
  for (int32_t i = 0; i != kDead; i = symbols[i].next) ids->push_back(symbols[i].id);
}

}  // namespace rollcall
