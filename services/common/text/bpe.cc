#include "services/common/text/bpe.h"

#include <algorithm>
#include <array>
#include <functional>
#include <unordered_set>

#include "services/common/text/byte_level.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr int32_t kDead = -1;
// Up to this many symbols the best merge is found by looking at all of them.
constexpr size_t kShortWord = 40;
constexpr size_t kJunctionBits = size_t{1} << 20;

struct Candidate {
  int32_t rank;
  int32_t position;  // of the left symbol
  int32_t id;        // what the pair becomes
  // Lowest rank first, then leftmost.
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

struct Link {
  int32_t previous;
  int32_t next;
};

struct BpeScratch final : public ModelScratch {
  std::vector<ModelToken> symbols;
  std::vector<Link> links;
  std::vector<Candidate> queue;
};

std::string Shown(std::string_view token) { return "'" + std::string(token) + "'"; }

uint64_t CharacterKey(char32_t c, int place) {
  return (uint64_t{c} << 2) | static_cast<uint64_t>(place);
}

char32_t LastCharacter(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return DecodeUtf8(text, begin).code_point;
}

}  // namespace

StatusOr<Bpe> Bpe::Create(BpeOptions options) {
  Bpe bpe;
  bpe.bytes_ = options.symbols == BpeOptions::Symbols::kBytes;
  bpe.fuse_unk_ = options.fuse_unk;
  bpe.unk_id_ = options.unk_id;
  bpe.prefix_ = options.continuing_subword_prefix;
  bpe.suffix_ = options.end_of_word_suffix;
  ROLLCALL_RETURN_IF_ERROR(bpe.AddMerges(options));
  if (bpe.bytes_) {
    for (int byte = 0; byte < 256; ++byte) {
      const char raw = static_cast<char>(byte);
      const auto it = options.vocab.find(EncodeByteLevel(std::string_view(&raw, 1)));
      bpe.byte_ids_[byte] = it == options.vocab.end() ? kDead : it->second;
    }
  } else {
    bpe.AddCharacters(options);
  }
  if (options.byte_fallback) {
    for (int byte = 0; byte < 256; ++byte) {
      const auto it = options.vocab.find(ByteToken(static_cast<uint8_t>(byte)));
      bpe.fallback_ids_.push_back(it == options.vocab.end() ? kDead : it->second);
    }
  }
  if (options.ignore_merges) {
    const std::unordered_set<int32_t> forbidden(options.forbidden_ids.begin(),
                                                options.forbidden_ids.end());
    std::vector<std::string> keys;
    std::vector<std::pair<std::string_view, int32_t>> entries;
    keys.reserve(options.vocab.size());
    for (const auto& [token, id] : options.vocab) {
      if (forbidden.contains(id)) continue;
      if (!bpe.bytes_) {
        entries.emplace_back(token, id);
      } else if (auto bytes = DecodeByteLevel(token)) {
        keys.push_back(*std::move(bytes));
        entries.emplace_back(keys.back(), id);
      }
    }
    bpe.words_ = Trie(std::move(entries));
    bpe.has_words_ = true;
  }
  // Prefix and suffix make a character depend on its place, and words are looked up whole.
  if (!bpe.bytes_ && bpe.prefix_.empty() && bpe.suffix_.empty() && !options.ignore_merges) {
    bpe.AddJunctions(options);
  }
  return bpe;
}

Status Bpe::AddMerges(const BpeOptions& options) {
  const std::unordered_set<int32_t> forbidden(options.forbidden_ids.begin(),
                                              options.forbidden_ids.end());
  const auto find = [&](const std::string& token) {
    const auto it = options.vocab.find(token);
    return it == options.vocab.end() ? kDead : it->second;
  };
  merges_.Reset(options.merges.size());
  for (size_t rank = 0; rank < options.merges.size(); ++rank) {
    const auto& [left, right] = options.merges[rank];
    const auto where = [&] { return "model.merges[" + std::to_string(rank) + "]: "; };
    if (!right.starts_with(prefix_)) {
      return InvalidArgument(where() + Shown(right) + " does not begin with " + Shown(prefix_));
    }
    const std::string merged = left + right.substr(prefix_.size());
    const int32_t left_id = find(left);
    const int32_t right_id = find(right);
    const int32_t merged_id = find(merged);
    if (left_id < 0 || right_id < 0 || merged_id < 0) {
      const std::string& missing = left_id < 0 ? left : right_id < 0 ? right : merged;
      return InvalidArgument(where() + Shown(missing) + " is not in model.vocab");
    }
    // Plain text must not become a special token.
    if (forbidden.contains(merged_id)) continue;
    // A repeated pair takes the later rank, as the reference does.
    merges_.Put((static_cast<uint64_t>(static_cast<uint32_t>(left_id)) << 32) |
                    static_cast<uint32_t>(right_id),
                {static_cast<int32_t>(rank), merged_id});
  }
  return OkStatus();
}

void Bpe::AddCharacters(const BpeOptions& options) {
  for (auto& ids : ascii_ids_) ids.fill(kDead);
  std::vector<std::pair<uint64_t, int32_t>> entries;
  for (const auto& [token, id] : options.vocab) {
    for (int place = 0; place < 4; ++place) {
      std::string_view rest = token;
      if ((place & kFirst) == 0) {
        if (!rest.starts_with(prefix_)) continue;
        rest.remove_prefix(prefix_.size());
      }
      if ((place & kLast) != 0) {
        if (!rest.ends_with(suffix_)) continue;
        rest.remove_suffix(suffix_.size());
      }
      if (rest.empty()) continue;
      const Utf8Step step = DecodeUtf8(rest, 0);
      if (!step.valid || step.num_bytes != rest.size()) continue;
      if (step.code_point < 128) {
        ascii_ids_[place][step.code_point] = id;
      } else {
        entries.emplace_back(CharacterKey(step.code_point, place), id);
      }
    }
  }
  character_ids_.Reset(entries.size());
  for (const auto& [key, id] : entries) character_ids_.Put(key, id);
}

size_t Bpe::JunctionBit(char32_t left, char32_t right) {
  const uint64_t key = (uint64_t{left} << 32) | right;
  return static_cast<size_t>((key * 0x9E3779B97F4A7C15ull) >> 44);  // 20 bits
}

void Bpe::AddJunctions(const BpeOptions& options) {
  junctions_.assign(kJunctionBits / 64, 0);
  for (const auto& [left, right] : options.merges) {
    // A token of a byte in a merge would stand for a character that is not written in it.
    if (ByteOfToken(left) >= 0 || ByteOfToken(right) >= 0) {
      junctions_.clear();
      return;
    }
    const size_t bit = JunctionBit(LastCharacter(left), DecodeUtf8(right, 0).code_point);
    junctions_[bit / 64] |= uint64_t{1} << (bit % 64);
  }
}

int32_t Bpe::CharacterId(char32_t c, Place place) const {
  if (c < 128) return ascii_ids_[place][c];
  const int32_t* id = character_ids_.Find(CharacterKey(c, place));
  return id == nullptr ? kDead : *id;
}

size_t Bpe::IndependentPrefix(std::string_view text) const {
  if (junctions_.empty()) return text.size();
  char32_t previous = 0;
  bool previous_known = false;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = DecodeUtf8(text, i);
    // Unknown characters are fused with what stands beside them.
    const bool known = CharacterId(step.code_point, kInside) >= 0;
    if (i > 0 && known && previous_known) {
      const size_t bit = JunctionBit(previous, step.code_point);
      if ((junctions_[bit / 64] >> (bit % 64) & 1) == 0) return i;
    }
    previous = step.code_point;
    previous_known = known;
    i += step.num_bytes;
  }
  return text.size();
}

std::unique_ptr<ModelScratch> Bpe::NewScratch() const { return std::make_unique<BpeScratch>(); }

void Bpe::FirstSymbols(std::string_view word, std::vector<ModelToken>* symbols) const {
  // An unknown token that may still grow.
  ModelToken unknown;
  bool has_unknown = false;
  // Positions count what became symbols; what is left out does not.
  uint32_t position = 0;
  const auto add = [&](int32_t id, uint32_t size) {
    symbols->push_back({id, position, position + size});
    position += size;
  };
  const auto flush = [&] {
    if (has_unknown) add(unknown.id, unknown.end);
    has_unknown = false;
  };
  const auto add_unknown = [&](uint32_t size) {
    if (unk_id_ < 0) return;
    if (has_unknown && fuse_unk_) {
      unknown.end += size;
      return;
    }
    flush();
    unknown = {unk_id_, 0, size};
    has_unknown = true;
  };
  if (bytes_) {
    for (size_t i = 0; i < word.size();) {
      const size_t num_bytes = DecodeUtf8(word, i).num_bytes;
      // In the alphabet each byte is a character of its own.
      for (size_t end = i + num_bytes; i < end; ++i) {
        const int32_t id = byte_ids_[static_cast<uint8_t>(word[i])];
        if (id >= 0) {
          flush();
          add(id, 1);
        } else {
          add_unknown(1);
        }
      }
    }
    flush();
    return;
  }
  for (size_t i = 0; i < word.size();) {
    const Utf8Step step = DecodeUtf8(word, i);
    const size_t end = i + step.num_bytes;
    const auto place = static_cast<Place>((i == 0 ? kFirst : 0) | (end == word.size() ? kLast : 0));
    const int32_t id = CharacterId(step.code_point, place);
    const auto size = static_cast<uint32_t>(step.num_bytes);
    if (id >= 0) {
      flush();
      add(id, size);
    } else {
      bool as_bytes = false;
      if (!fallback_ids_.empty()) {
        std::string text;
        if (i > 0) text += prefix_;
        text += word.substr(i, step.num_bytes);
        if (end == word.size()) text += suffix_;
        as_bytes = std::all_of(text.begin(), text.end(),
                               [&](char c) { return fallback_ids_[static_cast<uint8_t>(c)] >= 0; });
        // Like the reference, in front of an unknown token that is still open.
        if (as_bytes) {
          for (const char c : text) add(fallback_ids_[static_cast<uint8_t>(c)], 1);
        }
      }
      if (!as_bytes) add_unknown(size);
    }
    i = end;
  }
  flush();
}

Status Bpe::Encode(std::string_view word, ModelScratch* scratch,
                   std::vector<ModelToken>* tokens) const {
  if (has_words_) {
    const int32_t id = words_.Get(word);
    if (id >= 0) {
      tokens->push_back({id, 0, static_cast<uint32_t>(word.size())});
      return OkStatus();
    }
  }
  std::vector<ModelToken>& symbols = static_cast<BpeScratch*>(scratch)->symbols;
  symbols.clear();
  FirstSymbols(word, &symbols);
  if (symbols.size() <= kShortWord) {
    MergeShort(&symbols);
  } else {
    MergeLong(&symbols, scratch);
  }
  tokens->insert(tokens->end(), symbols.begin(), symbols.end());
  return OkStatus();
}

void Bpe::MergeShort(std::vector<ModelToken>* symbols) const {
  // best[i] merges symbols i and i + 1.
  std::array<Merge, kShortWord> best;
  constexpr int32_t kNever = INT32_MAX;
  size_t size = symbols->size();
  ModelToken* s = symbols->data();
  const auto look_up = [&](size_t i) {
    const Merge* merge = FindMerge(s[i].id, s[i + 1].id);
    best[i] = merge == nullptr ? Merge{kNever, 0} : *merge;
  };
  for (size_t i = 0; i + 1 < size; ++i) look_up(i);
  while (size > 1) {
    size_t at = 0;
    for (size_t i = 1; i + 1 < size; ++i) {
      if (best[i].rank < best[at].rank) at = i;
    }
    if (best[at].rank == kNever) break;
    s[at].id = best[at].id;
    s[at].end = s[at + 1].end;
    for (size_t i = at + 1; i + 1 < size; ++i) {
      s[i] = s[i + 1];
      best[i] = best[i + 1];
    }
    --size;
    if (at > 0) look_up(at - 1);
    if (at + 1 < size) look_up(at);
  }
  symbols->resize(size);
}

void Bpe::MergeLong(std::vector<ModelToken>* symbols, ModelScratch* scratch) const {
  std::vector<Link>& links = static_cast<BpeScratch*>(scratch)->links;
  std::vector<Candidate>& queue = static_cast<BpeScratch*>(scratch)->queue;
  std::vector<ModelToken>& s = *symbols;
  const auto size = static_cast<int32_t>(s.size());
  links.resize(s.size());
  queue.clear();
  const auto propose = [&](int32_t left, bool in_order) {
    const int32_t right = left < 0 ? kDead : links[left].next;
    if (right < 0) return;
    const Merge* merge = FindMerge(s[left].id, s[right].id);
    if (merge == nullptr) return;
    queue.push_back({merge->rank, left, merge->id});
    if (in_order) std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  for (int32_t i = 0; i < size; ++i) links[i] = {i - 1, i + 1 < size ? i + 1 : kDead};
  for (int32_t i = 0; i < size; ++i) propose(i, false);
  std::make_heap(queue.begin(), queue.end(), std::greater<>());

  while (!queue.empty()) {
    const Candidate top = queue.front();
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    queue.pop_back();
    ModelToken& left = s[top.position];
    const int32_t right_at = links[top.position].next;
    if (left.id == kDead || right_at == kDead) continue;
    // Symbols only grow, so a pair that changed since it was queued makes another token.
    ModelToken& right = s[right_at];
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) continue;
    left.id = top.id;
    left.end = right.end;
    const int32_t next = links[right_at].next;
    links[top.position].next = next;
    if (next != kDead) links[next].previous = top.position;
    right.id = kDead;
    propose(links[top.position].previous, true);
    propose(top.position, true);
  }
  std::erase_if(s, [](const ModelToken& symbol) { return symbol.id == kDead; });
}

}  // namespace rollcall
