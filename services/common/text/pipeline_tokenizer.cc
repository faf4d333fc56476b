#include "services/common/text/pipeline_tokenizer.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "services/base/sync/mutex.h"
#include "services/common/text/utf8.h"
#include "services/common/text/word_cache.h"

namespace rollcall {
namespace {

constexpr size_t kMaxTextBytes = 64 << 20;
// Working memories that are kept for the next call.
constexpr size_t kMaxIdle = 16;

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

// The working memory of one encoding.
struct Scratch {
  AlignedText text;
  std::vector<Piece> raw;
  std::vector<Piece> pieces;
  PreTokenizerScratch pre_tokenizer;
  std::unique_ptr<ModelScratch> model;
  std::vector<ModelToken> tokens;
  WordCache cache;
};

class PipelineTokenizer final : public Tokenizer {
 public:
  static StatusOr<std::shared_ptr<const Tokenizer>> Create(TokenizerParts parts);

  StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                        SpecialTokens special) const override {
    std::vector<int32_t> ids;
    ROLLCALL_RETURN_IF_ERROR(Run(text, special, &ids, nullptr));
    return ids;
  }

  StatusOr<EncodedText> EncodeWithOffsets(std::string_view text,
                                          SpecialTokens special) const override {
    EncodedText encoded;
    ROLLCALL_RETURN_IF_ERROR(Run(text, special, &encoded.ids, &encoded.ranges));
    return encoded;
  }

  StatusOr<std::vector<int32_t>> EncodeForModel(std::string_view text,
                                                SpecialTokens special) const override {
    std::vector<int32_t> ids;
    for (const int32_t id : post_processor_) {
      if (id == TokenizerParts::kTheText) {
        ROLLCALL_RETURN_IF_ERROR(Run(text, special, &ids, nullptr));
      } else {
        ids.push_back(id);
      }
    }
    return ids;
  }

  StatusOr<std::string> Decode(std::span<const int32_t> ids, Skip skip) const override;
  std::unique_ptr<Detokenizer> NewDetokenizer(Skip skip) const override;

  std::string TokenBytes(int32_t id) const override {
    const auto entry = Find(id, Skip::kSpecial);
    return !entry.ok() || *entry == nullptr ? "" : decoder_.BytesInside((*entry)->text);
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(entries_.size()); }

  int32_t TokenId(std::string_view content) const override {
    const auto it = ids_.find(std::string(content));
    return it == ids_.end() ? -1 : it->second;
  }

 private:
  class Stream;
  enum class Kind : uint8_t { kAbsent, kPlain, kSpecial };
  struct Entry {
    std::string text;  // prepared for the decoder
    Kind kind = Kind::kAbsent;
  };

  // Null entry: the token is skipped.
  StatusOr<const Entry*> Find(int32_t id, Skip skip) const;
  Status Run(std::string_view text, SpecialTokens special, std::vector<int32_t>* ids,
             std::vector<ByteRange>* ranges) const;
  Status RunPlain(std::string_view text, size_t base, SpecialTokens special, Scratch* scratch,
                  std::vector<int32_t>* ids, std::vector<ByteRange>* ranges) const;
  Status EncodeWord(std::string_view word, Scratch* scratch, std::vector<int32_t>* ids) const;
  std::unique_ptr<Scratch> TakeScratch() const ABSL_LOCKS_EXCLUDED(mu_);
  void GiveScratch(std::unique_ptr<Scratch> scratch) const ABSL_LOCKS_EXCLUDED(mu_);

  std::vector<Entry> entries_;                    // by id
  std::unordered_map<std::string, int32_t> ids_;  // by content as in the file
  AddedTokens added_tokens_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<const TokenModel> model_;
  const Bpe* bpe_ = nullptr;
  TokenDecoder decoder_;
  std::vector<int32_t> post_processor_;

  mutable Mutex mu_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_ ABSL_GUARDED_BY(mu_);
};

StatusOr<std::shared_ptr<const Tokenizer>> PipelineTokenizer::Create(TokenizerParts parts) {
  auto tokenizer = std::make_shared<PipelineTokenizer>();
  tokenizer->normalizer_ = Normalizer(std::move(parts.normalizer));
  tokenizer->pre_tokenizer_ = PreTokenizer(std::move(parts.pre_tokenizer));
  tokenizer->decoder_ = TokenDecoder(std::move(parts.decoder));
  tokenizer->post_processor_ = std::move(parts.post_processor);
  tokenizer->model_ = std::move(parts.model);
  tokenizer->bpe_ = parts.bpe;

  int32_t largest = -1;
  for (const VocabToken& token : parts.vocab) largest = std::max(largest, token.id);
  for (const AddedToken& token : parts.added_tokens) largest = std::max(largest, token.id);
  tokenizer->entries_.resize(static_cast<size_t>(largest) + 1);
  for (VocabToken& token : parts.vocab) {
    Entry& entry = tokenizer->entries_[token.id];
    ROLLCALL_ASSIGN_OR_RETURN(entry.text, tokenizer->decoder_.Prepare(token.content));
    entry.kind = Kind::kPlain;
    tokenizer->ids_.insert_or_assign(std::move(token.content), token.id);
  }
  // After the vocabulary: an added token is looked for, and written, in its normalized form.
  std::vector<std::string> normalized;
  AlignedText form;
  for (const AddedToken& token : parts.added_tokens) {
    form.Reset(token.content, 0, AlignedText::Track::kNo);
    if (token.normalized) ROLLCALL_RETURN_IF_ERROR(tokenizer->normalizer_.Apply(&form));
    normalized.emplace_back(form.text());
    Entry& entry = tokenizer->entries_[token.id];
    ROLLCALL_ASSIGN_OR_RETURN(entry.text, tokenizer->decoder_.Prepare(form.text()));
    entry.kind = token.special ? Kind::kSpecial : Kind::kPlain;
    tokenizer->ids_.insert_or_assign(token.content, token.id);
  }
  ROLLCALL_ASSIGN_OR_RETURN(tokenizer->added_tokens_,
                            AddedTokens::Create(std::move(parts.added_tokens), normalized));
  for (const int32_t id : tokenizer->post_processor_) {
    if (id == TokenizerParts::kTheText) continue;
    if (id >= tokenizer->vocab_size() || tokenizer->entries_[id].kind == Kind::kAbsent) {
      return InvalidArgument("post_processor: id " + std::to_string(id) +
                             " is not in the vocabulary of " +
                             std::to_string(tokenizer->vocab_size()));
    }
  }
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

std::unique_ptr<Scratch> PipelineTokenizer::TakeScratch() const {
  {
    const MutexLock lock(mu_);
    if (!idle_.empty()) {
      std::unique_ptr<Scratch> scratch = std::move(idle_.back());
      idle_.pop_back();
      return scratch;
    }
  }
  auto scratch = std::make_unique<Scratch>();
  scratch->model = model_->NewScratch();
  return scratch;
}

void PipelineTokenizer::GiveScratch(std::unique_ptr<Scratch> scratch) const {
  const MutexLock lock(mu_);
  if (idle_.size() < kMaxIdle) idle_.push_back(std::move(scratch));
}

Status PipelineTokenizer::Run(std::string_view text, SpecialTokens special,
                              std::vector<int32_t>* ids, std::vector<ByteRange>* ranges) const {
  ROLLCALL_RETURN_IF_ERROR(CheckText(text));
  std::unique_ptr<Scratch> scratch = TakeScratch();
  ids->reserve(ids->size() + text.size() / 4 + 8);
  std::vector<Piece>& raw = scratch->raw;
  raw.clear();
  added_tokens_.Split(AddedTokens::Pass::kOriginal, text, 0, special, &raw);
  Status status;
  for (const Piece& piece : raw) {
    if (piece.id >= 0) {
      ids->push_back(piece.id);
      if (ranges != nullptr) ranges->push_back({piece.begin, piece.end});
      continue;
    }
    status = RunPlain(text.substr(piece.begin, piece.end - piece.begin), piece.begin, special,
                      scratch.get(), ids, ranges);
    if (!status.ok()) break;
  }
  GiveScratch(std::move(scratch));
  return status;
}

Status PipelineTokenizer::RunPlain(std::string_view text, size_t base, SpecialTokens special,
                                   Scratch* scratch, std::vector<int32_t>* ids,
                                   std::vector<ByteRange>* ranges) const {
  const auto origin =
      normalizer_.empty() ? PreTokenizer::Origin::kAsItCame : PreTokenizer::Origin::kChanged;
  const bool track = ranges != nullptr || pre_tokenizer_.NeedsRanges(origin);
  AlignedText& aligned = scratch->text;
  aligned.Reset(text, base, track ? AlignedText::Track::kYes : AlignedText::Track::kNo);
  ROLLCALL_RETURN_IF_ERROR(normalizer_.Apply(&aligned));
  std::vector<Piece>& pieces = scratch->pieces;
  pieces.clear();
  added_tokens_.Split(AddedTokens::Pass::kNormalized, aligned.text(), 0, special, &pieces);
  ROLLCALL_RETURN_IF_ERROR(pre_tokenizer_.Apply(&aligned, &pieces, &scratch->pre_tokenizer));

  const std::string_view words = aligned.text();
  for (const Piece& piece : pieces) {
    if (piece.id >= 0) {
      ids->push_back(piece.id);
      if (ranges != nullptr) ranges->push_back(aligned.Original(piece.begin, piece.end));
      continue;
    }
    const std::string_view word = words.substr(piece.begin, piece.end - piece.begin);
    if (ranges == nullptr) {
      ROLLCALL_RETURN_IF_ERROR(EncodeWord(word, scratch, ids));
      continue;
    }
    scratch->tokens.clear();
    ROLLCALL_RETURN_IF_ERROR(model_->Encode(word, scratch->model.get(), &scratch->tokens));
    for (const ModelToken& token : scratch->tokens) {
      ids->push_back(token.id);
      ranges->push_back(aligned.Original(piece.begin + token.begin, piece.begin + token.end));
    }
  }
  return OkStatus();
}

Status PipelineTokenizer::EncodeWord(std::string_view word, Scratch* scratch,
                                     std::vector<int32_t>* ids) const {
  while (!word.empty()) {
    size_t length = word.size();
    size_t count = 0;
    const int32_t* known = scratch->cache.Find(word, &count);
    if (known == nullptr && bpe_ != nullptr) {
      length = bpe_->IndependentPrefix(word);
      if (length < word.size()) known = scratch->cache.Find(word.substr(0, length), &count);
    }
    if (known != nullptr) {
      ids->insert(ids->end(), known, known + count);
    } else {
      scratch->tokens.clear();
      ROLLCALL_RETURN_IF_ERROR(
          model_->Encode(word.substr(0, length), scratch->model.get(), &scratch->tokens));
      for (const ModelToken& token : scratch->tokens) ids->push_back(token.id);
      scratch->cache.Put(word.substr(0, length), scratch->tokens);
    }
    word.remove_prefix(length);
  }
  return OkStatus();
}

StatusOr<const PipelineTokenizer::Entry*> PipelineTokenizer::Find(int32_t id, Skip skip) const {
  if (id < 0 || id >= vocab_size() || entries_[id].kind == Kind::kAbsent) {
    return InvalidArgument("id " + std::to_string(id) + " is not in the vocabulary of " +
                           std::to_string(vocab_size()));
  }
  const Entry& entry = entries_[id];
  return skip == Skip::kSpecial && entry.kind == Kind::kSpecial ? nullptr : &entry;
}

StatusOr<std::string> PipelineTokenizer::Decode(std::span<const int32_t> ids, Skip skip) const {
  std::string out;
  if (decoder_.IsConcatenation()) {
    for (const int32_t id : ids) {
      ROLLCALL_ASSIGN_OR_RETURN(const Entry* entry, Find(id, skip));
      if (entry != nullptr) out += entry->text;
    }
    return FindInvalidUtf8(out) == out.size() ? out : ReplaceInvalidUtf8(out);
  }
  TokenDecoder::Stream stream(decoder_);
  for (const int32_t id : ids) {
    ROLLCALL_ASSIGN_OR_RETURN(const Entry* entry, Find(id, skip));
    if (entry != nullptr) ROLLCALL_RETURN_IF_ERROR(stream.Push(entry->text, &out));
  }
  ROLLCALL_RETURN_IF_ERROR(stream.Finish(&out));
  return out;
}

class PipelineTokenizer::Stream final : public Detokenizer {
 public:
  Stream(const PipelineTokenizer& tokenizer, Skip skip)
      : tokenizer_(tokenizer), skip_(skip), stream_(tokenizer.decoder_) {}

  StatusOr<std::string> Push(int32_t id) override {
    std::string out;
    ROLLCALL_ASSIGN_OR_RETURN(const Entry* entry, tokenizer_.Find(id, skip_));
    if (entry != nullptr) ROLLCALL_RETURN_IF_ERROR(stream_.Push(entry->text, &out));
    return out;
  }
  StatusOr<std::string> Finish() override {
    std::string out;
    ROLLCALL_RETURN_IF_ERROR(stream_.Finish(&out));
    return out;
  }

 private:
  const PipelineTokenizer& tokenizer_;
  const Skip skip_;
  TokenDecoder::Stream stream_;
};

std::unique_ptr<Detokenizer> PipelineTokenizer::NewDetokenizer(Skip skip) const {
  return std::make_unique<Stream>(*this, skip);
}

}  // namespace

StatusOr<std::shared_ptr<const Tokenizer>> MakePipelineTokenizer(TokenizerParts parts) {
  return PipelineTokenizer::Create(std::move(parts));
}

}  // namespace rollcall
