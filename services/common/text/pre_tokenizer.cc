#include "services/common/text/pre_tokenizer.h"

#include <algorithm>

#include "services/common/text/normalizer.h"
#include "services/common/text/unicode.h"
#include "services/common/text/utf8.h"

namespace rollcall {

const std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

class PieceList {
 public:
  explicit PieceList(std::vector<Piece>* pieces) : pieces_(*pieces) {}
  void Add(size_t begin, size_t end) {
    if (begin < end) {
      pieces_.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), -1});
    }
  }

 private:
  std::vector<Piece>& pieces_;
};

// Spans of a piece that begins at `base`.
void ApplyBehavior(std::vector<Span>* spans, SplitBehavior behavior, size_t base, PieceList* out) {
  std::vector<Span>& list = *spans;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kRemoved:
      std::erase_if(list, [](const Span& span) { return span.is_match; });
      break;
    case SplitBehavior::kContiguous: {
      size_t kept = 0;
      bool previous = false;
      for (const Span span : list) {
        if (span.is_match == previous && kept > 0) {
          list[kept - 1].end = span.end;
        } else {
          list[kept++] = span;
        }
        previous = span.is_match;
      }
      list.resize(kept);
      break;
    }
    case SplitBehavior::kMergedWithPrevious: {
      size_t kept = 0;
      bool previous = false;
      for (const Span span : list) {
        if (span.is_match && !previous && kept > 0) {
          list[kept - 1].end = span.end;
        } else {
          list[kept++] = span;
        }
        previous = span.is_match;
      }
      list.resize(kept);
      break;
    }
    case SplitBehavior::kMergedWithNext: {
      // The same from the back.
      size_t kept = list.size();
      bool previous = false;
      for (size_t i = list.size(); i-- > 0;) {
        const Span span = list[i];
        if (span.is_match && !previous && kept < list.size()) {
          list[kept].begin = span.begin;
        } else {
          list[--kept] = span;
        }
        previous = span.is_match;
      }
      list.erase(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(kept));
      break;
    }
  }
  for (const Span& span : list) out->Add(base + span.begin, base + span.end);
}

Status Cut(const SplitStep& step, std::string_view text, size_t base, std::vector<Span>* spans,
           PieceList* out) {
  if (step.scanner != WordScanner::kNone) {
    for (size_t i = 0; i < text.size();) {
      const size_t length = ScanWord(step.scanner, text.substr(i));
      out->Add(base + i, base + i + length);
      i += length;
    }
    return OkStatus();
  }
  spans->clear();
  ROLLCALL_RETURN_IF_ERROR(step.pattern.FindAll(text, spans));
  if (step.invert) {
    for (Span& span : *spans) span.is_match = !span.is_match;
  }
  ApplyBehavior(spans, step.behavior, base, out);
  return OkStatus();
}

Status Cut(const CharacterSplitStep& step, std::string_view text, size_t base,
           std::vector<Span>* spans, PieceList* out) {
  const CharTable& table = CharTable::Get();
  const bool by_trait = step.traits != 0;
  spans->clear();
  size_t done = 0;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step next = DecodeUtf8(text, i);
    const size_t end = i + next.num_bytes;
    if (by_trait ? table.Has(next.code_point, step.traits) : next.code_point == step.delimiter) {
      if (done < i) spans->push_back({done, i, false});
      spans->push_back({i, end, true});
      done = end;
    }
    i = end;
  }
  if (done < text.size()) spans->push_back({done, text.size(), false});
  ApplyBehavior(spans, step.behavior, base, out);
  return OkStatus();
}

Status Cut(const WordRunsStep& /*step*/, std::string_view text, size_t base,
           std::vector<Span>* /*spans*/, PieceList* out) {
  const CharTable& table = CharTable::Get();
  const auto kind = [&](char32_t c) { return table[c] & (kWord | kSpace); };
  size_t begin = 0;
  int current = kSpace;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step next = DecodeUtf8(text, i);
    const int of_next = kind(next.code_point);
    if (of_next != current) {
      if (current != kSpace) out->Add(base + begin, base + i);
      begin = i;
      current = of_next;
    }
    i += next.num_bytes;
  }
  if (current != kSpace) out->Add(base + begin, base + text.size());
  return OkStatus();
}

Status Cut(const FixedLengthStep& step, std::string_view text, size_t base,
           std::vector<Span>* /*spans*/, PieceList* out) {
  size_t begin = 0;
  size_t count = 0;
  for (size_t i = 0; i < text.size(); i += DecodeUtf8(text, i).num_bytes) {
    if (count++ == step.length) {
      out->Add(base + begin, base + i);
      begin = i;
      count = 1;
    }
  }
  out->Add(base + begin, base + text.size());
  return OkStatus();
}

template <typename Step>
Status CutAll(const Step& step, std::string_view text, std::vector<Piece>* pieces,
              PreTokenizerScratch* scratch) {
  std::vector<Piece>& out = scratch->pieces;
  out.clear();
  PieceList list(&out);
  for (const Piece& piece : *pieces) {
    if (piece.id >= 0) {
      out.push_back(piece);
      continue;
    }
    ROLLCALL_RETURN_IF_ERROR(Cut(step, text.substr(piece.begin, piece.end - piece.begin),
                                 piece.begin, &scratch->spans, &list));
  }
  pieces->swap(out);
  return OkStatus();
}

// Rewrites the piece, which the text has come to, and adds what it becomes to *out.
void Rewrite(const PrefixSpaceStep& /*step*/, const Piece& piece, AlignedText* text,
             PieceList* out) {
  const size_t begin = text->size();
  if (text->text()[piece.begin] != ' ') text->InsertBefore(" ");
  text->Copy(piece.end - piece.begin);
  out->Add(begin, text->size());
}

void Rewrite(const ByteAlphabetWordsStep& /*step*/, const Piece& piece, AlignedText* text,
             PieceList* out) {
  const size_t begin = text->size();
  PutByteAlphabet(piece.end, text);
  out->Add(begin, text->size());
}

void Rewrite(const MetaspaceStep& step, const Piece& piece, AlignedText* text, PieceList* out) {
  const std::string_view input = text->text();
  std::string replacement;
  AppendUtf8(step.replacement, &replacement);
  const auto starts_word = [&](size_t i) {
    return input[i] == ' ' || input.substr(i).starts_with(replacement);
  };
  size_t begin = text->size();
  const bool prepend =
      !starts_word(piece.begin) &&
      (step.prepend == MetaspaceStep::Prepend::kAlways ||
       (step.prepend == MetaspaceStep::Prepend::kFirst && text->OriginalBegin(piece.begin) == 0));
  if (prepend) text->InsertBefore(replacement);
  const char lead = replacement.front();
  for (size_t i = piece.begin; i < piece.end;) {
    if (input[i] != ' ' && input[i] != lead) {
      ++i;
      continue;
    }
    if (!starts_word(i)) {
      ++i;
      continue;
    }
    text->Copy(i - text->position());
    if (step.split) {
      out->Add(begin, text->size());
      begin = text->size();
    }
    const size_t num_bytes = input[i] == ' ' ? 1 : replacement.size();
    text->Replace(step.replacement, num_bytes);
    i += num_bytes;
  }
  text->Copy(piece.end - text->position());
  out->Add(begin, text->size());
}

template <typename Step>
Status RewriteAll(const Step& step, AlignedText* text, std::vector<Piece>* pieces,
                  PreTokenizerScratch* scratch) {
  std::vector<Piece>& out = scratch->pieces;
  out.clear();
  PieceList list(&out);
  text->Begin();
  for (const Piece& piece : *pieces) {
    text->Skip(piece.begin - text->position());
    if (piece.id >= 0) {
      const auto begin = static_cast<uint32_t>(text->size());
      text->Copy(piece.end - piece.begin);
      out.push_back({begin, static_cast<uint32_t>(text->size()), piece.id});
    } else {
      Rewrite(step, piece, text, &list);
    }
    if (text->size() > kMaxTextBytes) {
      return ResourceExhausted("the pre-tokenizer makes more than " +
                               std::to_string(kMaxTextBytes) + " bytes of text");
    }
  }
  text->Commit();
  pieces->swap(out);
  return OkStatus();
}

}  // namespace

Status PreTokenizer::Apply(AlignedText* text, std::vector<Piece>* pieces,
                           PreTokenizerScratch* scratch) const {
  for (const PreTokenizerStep& step : steps_) {
    ROLLCALL_RETURN_IF_ERROR(std::visit(
        [&](const auto& s) -> Status {
          if constexpr (requires { Rewrite(s, Piece{}, text, nullptr); }) {
            return RewriteAll(s, text, pieces, scratch);
          } else {
            return CutAll(s, text->text(), pieces, scratch);
          }
        },
        step));
  }
  return OkStatus();
}

bool PreTokenizer::NeedsRanges(Origin origin) const {
  // What a step in front has done to the text counts, too.
  return (origin == Origin::kChanged || steps_.size() > 1) &&
         std::any_of(steps_.begin(), steps_.end(), [](const PreTokenizerStep& step) {
           const auto* metaspace = std::get_if<MetaspaceStep>(&step);
           return metaspace != nullptr && metaspace->prepend == MetaspaceStep::Prepend::kFirst;
         });
}

}  // namespace rollcall
