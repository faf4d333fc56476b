#include "services/common/text/unigram.h"

#include <algorithm>
#include <limits>
#include <unordered_set>

#include "services/common/text/byte_level.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

// An unknown character is this much less likely than the least likely token.
constexpr double kUnkPenalty = 10.0;

struct Node {
  double score = 0;
  int32_t id = -1;
  int32_t begin = -1;  // -1: not reached
};

struct UnigramScratch final : public ModelScratch {
  std::vector<Node> nodes;
};

}  // namespace

Unigram::Unigram(const UnigramOptions& options) : unk_id_(options.unk_id) {
  double min_score = std::numeric_limits<double>::infinity();
  const std::unordered_set<int32_t> forbidden(options.forbidden_ids.begin(),
                                              options.forbidden_ids.end());
  std::vector<std::pair<std::string_view, int32_t>> entries;
  for (size_t i = 0; i < options.vocab.size(); ++i) {
    const auto& [token, score] = options.vocab[i];
    scores_.push_back(score);
    min_score = std::min(min_score, score);
    if (!forbidden.contains(static_cast<int32_t>(i))) {
      entries.emplace_back(token, static_cast<int32_t>(i));
    }
  }
  unk_score_ = min_score - kUnkPenalty;
  trie_ = Trie(std::move(entries));
  if (options.byte_fallback) {
    for (int byte = 0; byte < 256; ++byte) {
      byte_ids_.push_back(trie_.Get(ByteToken(static_cast<uint8_t>(byte))));
    }
  }
}

std::unique_ptr<ModelScratch> Unigram::NewScratch() const {
  return std::make_unique<UnigramScratch>();
}

Status Unigram::Encode(std::string_view word, ModelScratch* scratch,
                       std::vector<ModelToken>* tokens) const {
  std::vector<Node>& nodes = static_cast<UnigramScratch*>(scratch)->nodes;
  nodes.assign(word.size() + 1, Node{});
  const auto offer = [&](size_t begin, size_t end, int32_t id, double score) {
    Node& node = nodes[end];
    if (node.begin < 0 || score > node.score) {
      node = {score, id, static_cast<int32_t>(begin)};
    }
  };
  for (size_t begin = 0; begin < word.size();) {
    const size_t char_bytes = DecodeUtf8(word, begin).num_bytes;
    const double so_far = nodes[begin].score;
    bool has_single = false;
    int32_t node = Trie::kRoot;
    for (size_t i = begin; i < word.size(); ++i) {
      node = trie_.Child(node, static_cast<uint8_t>(word[i]));
      if (node == Trie::kNone) break;
      const int32_t id = trie_.Value(node);
      if (id == Trie::kNone) continue;
      offer(begin, i + 1, id, scores_[id] + so_far);
      has_single = has_single || i + 1 - begin == char_bytes;
    }
    if (!has_single) {
      if (unk_id_ < 0) {
        return InvalidArgument("'" + std::string(word.substr(begin, char_bytes)) +
                               "' has no token, and the vocabulary has no unknown token");
      }
      offer(begin, begin + char_bytes, unk_id_, unk_score_ + so_far);
    }
    begin += char_bytes;
  }

  // Back from the end; neighbouring unknown characters are one token.
  const size_t first = tokens->size();
  for (auto end = static_cast<int32_t>(word.size()); end > 0;) {
    int32_t begin = nodes[end].begin;
    const int32_t id = nodes[end].id;
    if (id == unk_id_) {
      while (begin > 0 && nodes[begin].id == unk_id_) begin = nodes[begin].begin;
    }
    tokens->push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    end = begin;
  }
  std::reverse(tokens->begin() + static_cast<std::ptrdiff_t>(first), tokens->end());
  if (byte_ids_.empty() && unk_id_ < 0) return OkStatus();

  // What is unknown may be a token when fused, or become bytes.
  std::vector<ModelToken> rest;
  for (size_t i = first; i < tokens->size(); ++i) {
    const ModelToken token = (*tokens)[i];
    if (token.id != unk_id_) {
      if (!rest.empty()) rest.push_back(token);
      continue;
    }
    const std::string_view text = word.substr(token.begin, token.end - token.begin);
    const int32_t whole = trie_.Get(text);
    const auto lacks = [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] < 0; };
    const bool as_bytes =
        whole < 0 && !byte_ids_.empty() && std::none_of(text.begin(), text.end(), lacks);
    if (!as_bytes) {
      if (whole >= 0) (*tokens)[i].id = whole;
      if (!rest.empty()) rest.push_back((*tokens)[i]);
      continue;
    }
    if (rest.empty()) {
      rest.assign(tokens->begin() + static_cast<std::ptrdiff_t>(first),
                  tokens->begin() + static_cast<std::ptrdiff_t>(i));
    }
    for (const char c : text) {
      rest.push_back({byte_ids_[static_cast<uint8_t>(c)], token.begin, token.end});
    }
  }
  if (!rest.empty()) {
    tokens->resize(first);
    tokens->insert(tokens->end(), rest.begin(), rest.end());
  }
  return OkStatus();
}

}  // namespace rollcall
