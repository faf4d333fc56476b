#include "services/common/text/normalizer.h"

#include "services/common/text/byte_level.h"
#include "services/common/text/unicode.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

template <typename Keep>
void Filter(AlignedText* text, Keep keep) {
  const std::string_view input = text->text();
  bool changed = false;
  for (size_t i = 0; i < input.size();) {
    const Utf8Step step = DecodeUtf8(input, i);
    if (!keep(step.code_point)) {
      if (!changed) text->Begin();
      changed = true;
      text->Copy(i - text->position());
      text->Skip(step.num_bytes);
    }
    i += step.num_bytes;
  }
  if (!changed) return;
  text->Copy(input.size() - text->position());
  text->Commit();
}

template <typename Function>
void Map(AlignedText* text, Function function) {
  const std::string_view input = text->text();
  bool changed = false;
  for (size_t i = 0; i < input.size();) {
    const Utf8Step step = DecodeUtf8(input, i);
    const char32_t mapped = function(step.code_point);
    if (mapped != step.code_point) {
      if (!changed) text->Begin();
      changed = true;
      text->Copy(i - text->position());
      text->Replace(mapped, step.num_bytes);
    }
    i += step.num_bytes;
  }
  if (!changed) return;
  text->Copy(input.size() - text->position());
  text->Commit();
}

void Lowercase(AlignedText* text) {
  const std::string_view input = text->text();
  bool changed = false;
  for (size_t i = 0; i < input.size();) {
    const Utf8Step step = DecodeUtf8(input, i);
    char32_t lower[2] = {step.code_point, 0};
    size_t count = 1;
    if (step.code_point >= 0x80) {
      count = ToLower(step.code_point, lower);
    } else if (step.code_point >= 'A' && step.code_point <= 'Z') {
      lower[0] = step.code_point + ('a' - 'A');
    }
    if (lower[0] != step.code_point) {
      if (!changed) text->Begin();
      changed = true;
      text->Copy(i - text->position());
      text->Replace(lower[0], step.num_bytes);
      if (count == 2) text->Insert(lower[1]);
    }
    i += step.num_bytes;
  }
  if (!changed) return;
  text->Copy(input.size() - text->position());
  text->Commit();
}

void Strip(const StripStep& step, AlignedText* text) {
  const std::string_view input = text->text();
  size_t begin = 0;
  size_t end = input.size();
  while (step.left && begin < end) {
    const Utf8Step next = DecodeUtf8(input, begin);
    if (!IsWhiteSpace(next.code_point)) break;
    begin += next.num_bytes;
  }
  while (step.right && end > begin) {
    size_t last = end - 1;
    while ((static_cast<uint8_t>(input[last]) & 0xC0) == 0x80) --last;
    if (!IsWhiteSpace(DecodeUtf8(input, last).code_point)) break;
    end = last;
  }
  if (begin == 0 && end == input.size()) return;
  text->Begin();
  text->Skip(begin);
  text->Copy(end - begin);
  text->Commit();
}

void Prepend(const PrependStep& step, AlignedText* text) {
  if (text->text().empty() || step.text.empty()) return;
  text->Begin();
  text->InsertBefore(step.text);
  text->Copy(text->text().size());
  text->Commit();
}

Status Replace(const ReplaceStep& step, size_t max_bytes, AlignedText* text) {
  const std::string_view input = text->text();
  const auto grown = [&](size_t size) {
    return size <= max_bytes ? OkStatus()
                             : ResourceExhausted("a Replace normalizer makes more than " +
                                                 std::to_string(max_bytes) + " bytes of text");
  };
  if (!step.pattern.text().empty()) {
    const std::string_view sought = step.pattern.text();
    size_t at = input.find(sought);
    if (at == std::string_view::npos) return OkStatus();
    text->Begin();
    for (; at != std::string_view::npos; at = input.find(sought, text->position())) {
      text->Copy(at - text->position());
      text->Skip(sought.size());
      text->InsertText(step.content);
      ROLLCALL_RETURN_IF_ERROR(grown(text->size()));
    }
  } else {
    std::vector<Span> spans;
    ROLLCALL_RETURN_IF_ERROR(step.pattern.FindAll(input, &spans));
    text->Begin();
    for (const Span& span : spans) {
      if (!span.is_match) {
        text->Copy(span.end - span.begin);
        continue;
      }
      text->Skip(span.end - span.begin);
      text->InsertText(step.content);
      ROLLCALL_RETURN_IF_ERROR(grown(text->size()));
    }
  }
  text->Copy(input.size() - text->position());
  text->Commit();
  return OkStatus();
}

// The CJK blocks as BERT has them.
bool IsChinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void SpaceChinese(AlignedText* text) {
  const std::string_view input = text->text();
  bool changed = false;
  for (size_t i = 0; i < input.size();) {
    const Utf8Step step = DecodeUtf8(input, i);
    if (step.num_bytes >= 3 && IsChinese(step.code_point)) {
      if (!changed) text->Begin();
      changed = true;
      text->Copy(i - text->position());
      text->Replace(' ', step.num_bytes);
      text->Insert(step.code_point);
      text->Insert(' ');
    }
    i += step.num_bytes;
  }
  if (!changed) return;
  text->Copy(input.size() - text->position());
  text->Commit();
}

void Bert(const BertStep& step, AlignedText* text) {
  const CharTable& table = CharTable::Get();
  if (step.clean_text) {
    Filter(text, [&](char32_t c) { return !table.Has(c, kUnclean); });
    Map(text, [&](char32_t c) { return table.Has(c, kSpace) ? U' ' : c; });
  }
  if (step.handle_chinese_chars) SpaceChinese(text);
  if (step.strip_accents) {
    NormalizeForm(NormalizationForm::kNfd, text);
    Filter(text, [&](char32_t c) { return !table.Has(c, kNonSpacing8); });
  }
  if (step.lowercase) Lowercase(text);
}

void Nmt(AlignedText* text) {
  Filter(text, [](char32_t c) {
    return !((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
             c == 0x8F || c == 0x9F);
  });
  Map(text, [](char32_t c) {
    const bool space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    return space ? U' ' : c;
  });
}

Status ApplyStep(const NormalizerStep& step, size_t max_bytes, AlignedText* text) {
  if (const auto* form = std::get_if<NormalizationForm>(&step)) {
    NormalizeForm(*form, text);
  } else if (std::holds_alternative<LowercaseStep>(step)) {
    Lowercase(text);
  } else if (const auto* strip = std::get_if<StripStep>(&step)) {
    Strip(*strip, text);
  } else if (std::holds_alternative<StripAccentsStep>(step)) {
    Filter(text, [](char32_t c) { return !CharTable::Get().Has(c, kMark9); });
  } else if (const auto* prepend = std::get_if<PrependStep>(&step)) {
    Prepend(*prepend, text);
  } else if (const auto* replace = std::get_if<ReplaceStep>(&step)) {
    return Replace(*replace, max_bytes, text);
  } else if (const auto* bert = std::get_if<BertStep>(&step)) {
    Bert(*bert, text);
  } else if (std::holds_alternative<NmtStep>(step)) {
    Nmt(text);
  } else if (std::holds_alternative<ByteAlphabetStep>(step)) {
    text->Begin();
    PutByteAlphabet(text->text().size(), text);
    text->Commit();
  } else if (const auto* charsmap = std::get_if<std::shared_ptr<const Charsmap>>(&step)) {
    (*charsmap)->Apply(text);
  }
  return OkStatus();
}

}  // namespace

void PutByteAlphabet(size_t end, AlignedText* text) {
  const std::string_view input = text->text();
  while (text->position() < end) {
    const size_t begin = text->position();
    const size_t num_bytes = DecodeUtf8(input, begin).num_bytes;
    text->Replace(ByteToChar(static_cast<uint8_t>(input[begin])), num_bytes);
    for (size_t i = 1; i < num_bytes; ++i) {
      text->Insert(ByteToChar(static_cast<uint8_t>(input[begin + i])));
    }
  }
}

Status Normalizer::Apply(AlignedText* text) const {
  const size_t max_bytes = (text->text().size() + 1024) * kMaxGrowth;
  for (const NormalizerStep& step : steps_) {
    ROLLCALL_RETURN_IF_ERROR(ApplyStep(step, max_bytes, text));
    if (text->text().size() > max_bytes) {
      return ResourceExhausted("the normalizer makes more than " + std::to_string(max_bytes) +
                               " bytes of a text of " +
                               std::to_string(max_bytes / kMaxGrowth - 1024));
    }
  }
  return OkStatus();
}

}  // namespace rollcall
