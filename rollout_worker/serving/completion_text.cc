#include "rollout_worker/serving/completion_text.h"

#include <algorithm>
#include <utility>

namespace rollcall {

CompletionText::CompletionText(CompletionTextOptions options)
    : options_(std::move(options)),
      detokenizer_(options_.tokenizer->NewDetokenizer(options_.skip)) {
  if (!options_.stops.empty()) {
    // What the token adds was found before it is asked for.
    stops_.emplace(options_.stops, [this](int32_t) { return std::move(pushed_); });
  }
}

void CompletionText::Add(std::string text, bool is_searched) {
  num_bytes_ += text.size();
  text_ += text;
  if (!stops_) return;
  if (is_searched) {
    pushed_ = std::move(text);
    stops_->EndsWith(0);
  } else {
    num_unsearched_ += text.size();
  }
}

std::string CompletionText::stop() const {
  if (!stops_) return {};
  const auto match = stops_->match();
  return match ? options_.stops[match->stop] : std::string();
}

void CompletionText::Push(int32_t token) {
  const bool is_searched = ++num_tokens_ > options_.min_tokens;
  // Ids outside the vocabulary have no text.
  Add(detokenizer_->Push(token).value_or(""), is_searched);
}

void CompletionText::Finish() {
  if (std::exchange(is_finished_, true)) return;
  Add(detokenizer_->Finish().value_or(""), num_tokens_ > options_.min_tokens);
}

size_t CompletionText::NumFinalBytes() const {
  if (!stops_) return num_bytes_;
  if (const auto& match = stops_->match()) {
    return num_unsearched_ + (options_.includes_stop ? match->end : match->begin);
  }
  return is_finished_ ? num_bytes_ : num_unsearched_ + stops_->num_shown_bytes();
}

std::string CompletionText::Take() {
  // A match may begin before what was taken when min_tokens let it pass.
  const size_t count = std::max(NumFinalBytes(), num_taken_) - num_taken_;
  std::string taken = text_.substr(0, count);
  text_.erase(0, count);
  num_taken_ += count;
  return taken;
}

}  // namespace rollcall
