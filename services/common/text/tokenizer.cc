#include "services/common/text/tokenizer.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/common/text/added_tokens.h"
#include "services/common/text/bpe.h"
#include "services/common/text/byte_level.h"
#include "services/common/text/pre_tokenizer.h"
#include "services/common/text/tokenizer_json.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr size_t kMaxTextBytes = 64 << 20;

Status CheckText(std::string_view text) {
  if (text.size() > kMaxTextBytes) {
    return InvalidArgument("text has " + std::to_string(text.size()) + " bytes, the limit is " +
                           std::to_string(kMaxTextBytes));
  }
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != text.size()) {
    return InvalidArgument("text is not UTF-8 at byte " + std::to_string(invalid));
  }
  return OkStatus();
}

// Widens a range of bytes to whole characters.
ByteRange WholeCharacters(std::string_view text, size_t begin, size_t end) {
  const auto continues = [&](size_t i) { return (static_cast<uint8_t>(text[i]) & 0xC0) == 0x80; };
  while (begin > 0 && continues(begin)) --begin;
  while (end < text.size() && continues(end)) ++end;
  return {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
}

class ByteLevelTokenizer final : public Tokenizer {
 public:
  static StatusOr<std::shared_ptr<const Tokenizer>> Create(TokenizerParts parts) {
    auto tokenizer = std::make_shared<ByteLevelTokenizer>();
    int32_t largest = -1;
    for (const auto& [bytes, id] : parts.bpe.vocab) largest = std::max(largest, id);
    for (const AddedToken& token : parts.added_tokens) largest = std::max(largest, token.id);
    tokenizer->entries_.resize(static_cast<size_t>(largest) + 1);
    for (const auto& [bytes, id] : parts.bpe.vocab) {
      tokenizer->entries_[id] = {bytes, Kind::kPlain};
      tokenizer->ids_.emplace(EncodeByteLevel(bytes), id);
    }
    // After the vocabulary: the content of an added token is text, not the byte-level alphabet.
    for (const AddedToken& token : parts.added_tokens) {
      tokenizer->entries_[token.id] = {token.content,
                                       token.special ? Kind::kSpecial : Kind::kPlain};
      tokenizer->ids_.insert_or_assign(token.content, token.id);
    }
    tokenizer->pre_tokenizer_ = PreTokenizer(std::move(parts.pre_tokenizer));
    ROLLCALL_ASSIGN_OR_RETURN(tokenizer->added_tokens_,
                              AddedTokens::Create(std::move(parts.added_tokens)));
    ROLLCALL_ASSIGN_OR_RETURN(Bpe bpe, Bpe::Create(std::move(parts.bpe)));
    tokenizer->bpe_ = std::make_unique<const Bpe>(std::move(bpe));
    return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
  }

  StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                        SpecialTokens special) const override {
    ROLLCALL_RETURN_IF_ERROR(CheckText(text));
    std::vector<TextPiece> pieces;
    added_tokens_.Split(text, special, &pieces);
    std::vector<int32_t> ids;
    for (const TextPiece& piece : pieces) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
        continue;
      }
      ROLLCALL_ASSIGN_OR_RETURN(const std::vector<std::string> words,
                                pre_tokenizer_.Split(piece.text));
      for (const std::string& word : words) bpe_->Encode(word, &ids);
    }
    return ids;
  }

  StatusOr<EncodedText> EncodeWithOffsets(std::string_view text,
                                          SpecialTokens special) const override {
    ROLLCALL_RETURN_IF_ERROR(CheckText(text));
    std::vector<TextPiece> pieces;
    added_tokens_.Split(text, special, &pieces);
    EncodedText encoded;
    for (const TextPiece& piece : pieces) {
      const auto piece_begin = static_cast<size_t>(piece.text.data() - text.data());
      if (piece.id >= 0) {
        encoded.ids.push_back(piece.id);
        encoded.ranges.push_back({static_cast<uint32_t>(piece_begin),
                                  static_cast<uint32_t>(piece_begin + piece.text.size())});
        continue;
      }
      ROLLCALL_ASSIGN_OR_RETURN(const std::vector<std::string> words,
                                pre_tokenizer_.Split(piece.text));
      const size_t first = encoded.ids.size();
      size_t num_bytes = 0;
      for (const std::string& word : words) {
        bpe_->Encode(word, &encoded.ids);
        num_bytes += word.size();
      }
      // Prefix spaces are all that can be there more.
      size_t extra = num_bytes - piece.text.size();
      size_t begin = piece_begin;
      for (size_t i = first; i < encoded.ids.size(); ++i) {
        size_t size = bpe_->NumBytes(encoded.ids[i]);
        const size_t inserted = std::min(extra, size);
        extra -= inserted;
        size -= inserted;
        encoded.ranges.push_back(WholeCharacters(text, begin, begin + std::max<size_t>(size, 1)));
        begin += size;
      }
    }
    return encoded;
  }

  StatusOr<std::string> Decode(std::span<const int32_t> ids, Skip skip) const override {
    std::string bytes;
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size() || entries_[id].kind == Kind::kAbsent) {
        return InvalidArgument("id " + std::to_string(id) + " is not in the vocabulary of " +
                               std::to_string(vocab_size()));
      }
      const Entry& entry = entries_[id];
      if (skip == Skip::kSpecial && entry.kind == Kind::kSpecial) continue;
      bytes += entry.bytes;
    }
    return ReplaceInvalidUtf8(bytes);
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(entries_.size()); }

  int32_t TokenId(std::string_view content) const override {
    const auto it = ids_.find(std::string(content));
    return it == ids_.end() ? -1 : it->second;
  }

 private:
  enum class Kind : uint8_t { kAbsent, kPlain, kSpecial };
  struct Entry {
    std::string bytes;
    Kind kind = Kind::kAbsent;
  };

  std::vector<Entry> entries_;                    // by id
  std::unordered_map<std::string, int32_t> ids_;  // by content as in the file
  AddedTokens added_tokens_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<const Bpe> bpe_;
};

}  // namespace

StatusOr<std::shared_ptr<const Tokenizer>> ParseTokenizer(std::string_view json,
                                                          std::string_view origin) {
  StatusOr<TokenizerParts> parts = ParseTokenizerJson(json);
  if (!parts.ok()) return Annotate(parts.status(), origin);
  StatusOr<std::shared_ptr<const Tokenizer>> tokenizer =
      ByteLevelTokenizer::Create(*std::move(parts));
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), origin);
  return tokenizer;
}

std::string ByteTokenizerJson() {
  using Json = nlohmann::ordered_json;
  constexpr int kNumBytes = 256;
  Json vocab = Json::object();
  for (int byte = 0; byte < kNumBytes; ++byte) {
    const char raw = static_cast<char>(byte);
    vocab[EncodeByteLevel(std::string_view(&raw, 1))] = byte;
  }
  const Json end_of_text = {
      {"id", kNumBytes}, {"content", "<|endoftext|>"}, {"single_word", false}, {"lstrip", false},
      {"rstrip", false}, {"normalized", false},        {"special", true}};
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", false}};
  const Json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", Json::array({end_of_text})},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", byte_level},
                          {"post_processor", nullptr},
                          {"decoder", byte_level},
                          {"model",
                           {{"type", "BPE"},
                            {"dropout", nullptr},
                            {"unk_token", nullptr},
                            {"continuing_subword_prefix", nullptr},
                            {"end_of_word_suffix", nullptr},
                            {"fuse_unk", false},
                            {"byte_fallback", false},
                            {"ignore_merges", false},
                            {"vocab", vocab},
                            {"merges", Json::array()}}}};
  return tokenizer.dump(2) + "\n";
}

Status CheckTokenizerFits(const Tokenizer& tokenizer, int64_t model_vocab_size) {
  if (tokenizer.vocab_size() <= model_vocab_size) return OkStatus();
  return InvalidArgument("the tokenizer has ids up to " +
                         std::to_string(tokenizer.vocab_size() - 1) +
                         ", the model has embeddings for " + std::to_string(model_vocab_size) +
                         " ids only; use the tokenizer.json that belongs to the model");
}

}  // namespace rollcall
