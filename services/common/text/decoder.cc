#include "services/common/text/decoder.h"

#include <algorithm>

#include "services/common/text/byte_level.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

std::string ReplaceAll(std::string_view text, std::string_view what, std::string_view with) {
  std::string out;
  size_t done = 0;
  for (size_t at = what.empty() ? std::string_view::npos : text.find(what);
       at != std::string_view::npos; at = text.find(what, done)) {
    out.append(text.substr(done, at - done));
    out.append(with);
    done = at + what.size();
  }
  out.append(text.substr(done));
  return out;
}

StatusOr<std::string> Apply(const ReplaceDecoder& step, std::string_view token) {
  if (!step.pattern.text().empty()) return ReplaceAll(token, step.pattern.text(), step.content);
  std::vector<Span> spans;
  ROLLCALL_RETURN_IF_ERROR(step.pattern.FindAll(token, &spans));
  std::string out;
  for (const Span& span : spans) {
    out.append(span.is_match ? std::string_view(step.content)
                             : token.substr(span.begin, span.end - span.begin));
  }
  return out;
}

std::string Apply(const MetaspaceDecoder& step, std::string_view token, bool is_first) {
  std::string replacement;
  AppendUtf8(step.replacement, &replacement);
  return ReplaceAll(token, replacement, is_first && !step.keep_first ? "" : " ");
}

std::string Apply(const StripDecoder& step, std::string_view token) {
  std::string content;
  AppendUtf8(step.content, &content);
  size_t begin = 0;
  size_t end = token.size();
  for (size_t i = 0; i < step.start && token.substr(begin).starts_with(content); ++i) {
    begin += content.size();
  }
  for (size_t i = 0; i < step.stop; ++i) {
    if (!token.substr(begin, end - begin).ends_with(content)) break;
    end -= content.size();
  }
  return std::string(token.substr(begin, end - begin));
}

std::string Apply(const WordPieceDecoder& step, std::string_view token, bool is_first) {
  std::string text;
  if (is_first) {
    text = std::string(token);
  } else if (token.starts_with(step.prefix)) {
    text = std::string(token.substr(step.prefix.size()));
  } else {
    text = " " + std::string(token);
  }
  if (!step.cleanup) return text;
  constexpr std::pair<std::string_view, std::string_view> kCleanup[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kCleanup) text = ReplaceAll(text, from, to);
  return text;
}

std::string ByteLevelText(std::string_view token) {
  std::optional<std::string> bytes = DecodeByteLevel(token);
  return bytes ? *std::move(bytes) : std::string(token);
}

// Length of the text without a character at its end that may still become valid.
size_t FinalPrefix(std::string_view bytes) {
  for (size_t back = 1; back <= std::min<size_t>(3, bytes.size()); ++back) {
    const auto byte = static_cast<uint8_t>(bytes[bytes.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    if (byte < 0xC0) break;
    const Utf8Step step = DecodeUtf8(bytes, bytes.size() - back);
    const size_t wanted = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
    // Ill-formed before the end is final already.
    if (!step.valid && step.num_bytes == back && back < wanted && byte >= 0xC2 && byte <= 0xF4) {
      return bytes.size() - back;
    }
    break;
  }
  return bytes.size();
}

bool IsCharacter(std::string_view text) {
  return !text.empty() && DecodeUtf8(text, 0).num_bytes == text.size();
}

}  // namespace

TokenDecoder::TokenDecoder(std::vector<DecoderStep> steps) : steps_(std::move(steps)) {
  while (num_prepared_ < steps_.size() &&
         (std::holds_alternative<ReplaceDecoder>(steps_[num_prepared_]) ||
          std::holds_alternative<StripDecoder>(steps_[num_prepared_]))) {
    ++num_prepared_;
  }
  bytes_prepared_ = num_prepared_ < steps_.size() &&
                    std::holds_alternative<ByteLevelDecoder>(steps_[num_prepared_]);
  fused_from_ = steps_.size();
  for (size_t i = 0; i < steps_.size() && fused_from_ == steps_.size(); ++i) {
    if (std::holds_alternative<FuseDecoder>(steps_[i]) ||
        std::holds_alternative<ByteLevelDecoder>(steps_[i])) {
      fused_from_ = i + 1;
    }
  }
}

StatusOr<std::string> TokenDecoder::Prepare(std::string_view token) const {
  std::string text(token);
  for (size_t i = 0; i < num_prepared_; ++i) {
    if (const auto* replace = std::get_if<ReplaceDecoder>(&steps_[i])) {
      ROLLCALL_ASSIGN_OR_RETURN(text, Apply(*replace, text));
    } else {
      text = Apply(std::get<StripDecoder>(steps_[i]), text);
    }
  }
  return bytes_prepared_ ? ByteLevelText(text) : text;
}

bool TokenDecoder::IsConcatenation() const {
  const size_t rest = num_prepared_ + (bytes_prepared_ ? 1 : 0);
  return std::all_of(steps_.begin() + static_cast<std::ptrdiff_t>(rest), steps_.end(),
                     [](const DecoderStep& s) { return std::holds_alternative<FuseDecoder>(s); });
}

std::string TokenDecoder::BytesInside(std::string_view token) const {
  if (IsConcatenation()) return std::string(token);
  const bool falls_back = std::any_of(steps_.begin(), steps_.end(), [](const DecoderStep& s) {
    return std::holds_alternative<ByteFallbackDecoder>(s);
  });
  if (falls_back && ByteOfToken(token) >= 0) {
    return {static_cast<char>(ByteOfToken(token))};
  }
  // Between two letters, so that what the decoder does at the ends of a text does not count.
  const auto between = [this](std::string_view inner) {
    std::string text;
    Stream stream(*this);
    for (const std::string_view part : {std::string_view("x"), inner, std::string_view("x")}) {
      if (!part.empty() && !stream.Push(part, &text).ok()) return std::string();
    }
    return stream.Finish(&text).ok() ? text : std::string();
  };
  const std::string frame = between("");
  const std::string text = between(token);
  const size_t begin = text.find('x') + 1;
  const size_t end = frame.size() - frame.find('x') - 1;
  return text.size() < begin + end ? "" : text.substr(begin, text.size() - begin - end);
}

TokenDecoder::Stream::Stream(const TokenDecoder& decoder)
    : decoder_(decoder), states_(decoder.steps_.size()) {}

Status TokenDecoder::Stream::Push(std::string_view token, std::string* out) {
  return Token(decoder_.num_prepared_, token, out);
}

Status TokenDecoder::Stream::Token(size_t step, std::string_view token, std::string* out) {
  if (step == states_.size()) {
    out->append(token);
    return OkStatus();
  }
  const DecoderStep& kind = decoder_.steps_[step];
  State& state = states_[step];
  const bool is_first = std::exchange(state.is_first, false);
  if (std::holds_alternative<ByteLevelDecoder>(kind)) {
    const bool prepared = decoder_.bytes_prepared_ && step == decoder_.num_prepared_;
    state.held += prepared ? std::string(token) : ByteLevelText(token);
    const size_t final_size = FinalPrefix(state.held);
    const std::string text = ReplaceInvalidUtf8(std::string_view(state.held).substr(0, final_size));
    state.held.erase(0, final_size);
    return Part(step + 1, text, out);
  }
  if (const auto* metaspace = std::get_if<MetaspaceDecoder>(&kind)) {
    return Token(step + 1, Apply(*metaspace, token, is_first), out);
  }
  if (const auto* word_piece = std::get_if<WordPieceDecoder>(&kind)) {
    return Token(step + 1, Apply(*word_piece, token, is_first), out);
  }
  if (std::holds_alternative<ByteFallbackDecoder>(kind)) {
    const int byte = ByteOfToken(token);
    if (byte >= 0) {
      state.held.push_back(static_cast<char>(byte));
      return OkStatus();
    }
    ROLLCALL_RETURN_IF_ERROR(FlushBytes(step, out));
    return Token(step + 1, token, out);
  }
  if (std::holds_alternative<FuseDecoder>(kind)) return Part(step + 1, token, out);
  if (const auto* strip = std::get_if<StripDecoder>(&kind)) {
    return Token(step + 1, Apply(*strip, token), out);
  }
  if (const auto* replace = std::get_if<ReplaceDecoder>(&kind)) {
    ROLLCALL_ASSIGN_OR_RETURN(const std::string text, Apply(*replace, token));
    return Token(step + 1, text, out);
  }
  if (const auto* bpe = std::get_if<BpeDecoder>(&kind)) {
    // Whether a token is the last one shows when the next one comes.
    const std::string before = std::exchange(state.held, std::string(token));
    if (!std::exchange(state.has_held, true)) return OkStatus();
    return Token(step + 1, ReplaceAll(before, bpe->suffix, " "), out);
  }
  return Token(step + 1, is_first ? std::string(token) : " " + std::string(token), out);
}

Status TokenDecoder::Stream::Part(size_t step, std::string_view part, std::string* out) {
  if (step == states_.size()) {
    out->append(part);
    return OkStatus();
  }
  const DecoderStep& kind = decoder_.steps_[step];
  State& state = states_[step];
  state.is_first = false;
  if (std::holds_alternative<FuseDecoder>(kind) || std::holds_alternative<SpacesDecoder>(kind)) {
    return Part(step + 1, part, out);
  }
  if (std::holds_alternative<StripDecoder>(kind)) return StripPart(step, part, out);
  if (const auto* metaspace = std::get_if<MetaspaceDecoder>(&kind)) {
    return Part(step + 1, Apply(*metaspace, part, true), out);
  }
  const auto* replace = std::get_if<ReplaceDecoder>(&kind);
  if (replace != nullptr && IsCharacter(replace->pattern.text())) {
    return Part(step + 1, ReplaceAll(part, replace->pattern.text(), replace->content), out);
  }
  // Nothing is final before the end.
  state.held += part;
  return OkStatus();
}

Status TokenDecoder::Stream::StripPart(size_t step, std::string_view part, std::string* out) {
  const auto& strip = std::get<StripDecoder>(decoder_.steps_[step]);
  State& state = states_[step];
  if (state.count >= strip.start && strip.stop == 0) return Part(step + 1, part, out);
  std::string content;
  AppendUtf8(strip.content, &content);
  // `count` is how many are gone in front, past `start` when that is over.
  while (state.count < strip.start && !part.empty()) {
    if (!part.starts_with(content)) {
      state.count = strip.start;
      break;
    }
    part.remove_prefix(content.size());
    ++state.count;
  }
  state.held += part;
  // What may be taken away behind stays.
  size_t kept = 0;
  size_t end = state.held.size();
  while (kept < strip.stop && std::string_view(state.held).substr(0, end).ends_with(content)) {
    end -= content.size();
    ++kept;
  }
  const std::string text = state.held.substr(0, end);
  state.held.erase(0, end);
  return Part(step + 1, text, out);
}

Status TokenDecoder::Stream::FlushBytes(size_t step, std::string* out) {
  if (states_[step].held.empty()) return OkStatus();
  const std::string bytes = std::exchange(states_[step].held, {});
  if (FindInvalidUtf8(bytes) == bytes.size()) return Token(step + 1, bytes, out);
  for (size_t i = 0; i < bytes.size(); ++i) {
    ROLLCALL_RETURN_IF_ERROR(Token(step + 1, "\uFFFD", out));
  }
  return OkStatus();
}

Status TokenDecoder::Stream::Flush(size_t step, std::string* out) {
  const DecoderStep& kind = decoder_.steps_[step];
  const bool fused = step >= decoder_.fused_from_;
  if (!fused && std::holds_alternative<ByteFallbackDecoder>(kind)) return FlushBytes(step, out);
  const bool has_held = states_[step].has_held;
  const std::string held = std::exchange(states_[step].held, {});
  if (!fused) {
    if (std::holds_alternative<ByteLevelDecoder>(kind)) {
      return Part(step + 1, ReplaceInvalidUtf8(held), out);
    }
    const auto* bpe = std::get_if<BpeDecoder>(&kind);
    if (bpe == nullptr || !has_held) return OkStatus();
    return Token(step + 1, ReplaceAll(held, bpe->suffix, ""), out);
  }
  if (held.empty()) return OkStatus();
  if (std::holds_alternative<StripDecoder>(kind)) return OkStatus();  // all of it goes
  std::string text = held;
  if (std::holds_alternative<ByteLevelDecoder>(kind)) {
    text = ReplaceInvalidUtf8(ByteLevelText(held));
  }
  if (const auto* bpe = std::get_if<BpeDecoder>(&kind)) text = ReplaceAll(held, bpe->suffix, "");
  if (const auto* word_piece = std::get_if<WordPieceDecoder>(&kind)) {
    text = Apply(*word_piece, held, true);
  }
  if (const auto* replace = std::get_if<ReplaceDecoder>(&kind)) {
    ROLLCALL_ASSIGN_OR_RETURN(text, Apply(*replace, held));
  }
  if (std::holds_alternative<ByteFallbackDecoder>(kind)) {
    const int byte = ByteOfToken(held);
    if (byte >= 0) text = ReplaceInvalidUtf8(std::string(1, static_cast<char>(byte)));
  }
  return Part(step + 1, text, out);
}

Status TokenDecoder::Stream::Finish(std::string* out) {
  for (size_t step = decoder_.num_prepared_; step < states_.size(); ++step) {
    ROLLCALL_RETURN_IF_ERROR(Flush(step, out));
  }
  states_.assign(states_.size(), State{});
  return OkStatus();
}

}  // namespace rollcall
