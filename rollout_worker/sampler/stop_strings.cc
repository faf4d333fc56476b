#include "rollout_worker/sampler/stop_strings.h"

#include <algorithm>
#include <utility>

namespace rollcall {
namespace {

// Bytes that follow the first byte of a UTF-8 character; 0 for what begins none.
int NumContinuationBytes(unsigned char first) {
  if (first >= 0xF0 && first <= 0xF4) return 3;
  if (first >= 0xE0 && first < 0xF0) return 2;
  if (first >= 0xC2 && first < 0xE0) return 1;
  return 0;
}

}  // namespace

Status CheckStopStrings(const std::vector<std::string>& stops) {
  if (stops.size() > StopLimits::kMaxStrings) {
    return InvalidArgument(std::to_string(stops.size()) + " stop strings, at most " +
                           std::to_string(StopLimits::kMaxStrings) + " are allowed");
  }
  for (const std::string& stop : stops) {
    if (stop.empty()) return InvalidArgument("a stop string is empty");
    if (stop.size() > StopLimits::kMaxBytes) {
      return InvalidArgument("a stop string has " + std::to_string(stop.size()) +
                             " bytes, at most " + std::to_string(StopLimits::kMaxBytes) +
                             " are allowed");
    }
  }
  return OkStatus();
}

StopStrings::StopStrings(std::vector<std::string> stops,
                         std::function<std::string(int32_t)> token_bytes)
    : token_bytes_(std::move(token_bytes)) {
  for (std::string& stop : stops) {
    Automaton automaton{.text = std::move(stop)};
    automaton.border.assign(automaton.text.size(), 0);
    size_t border = 0;
    for (size_t i = 1; i < automaton.text.size(); ++i) {
      while (border > 0 && automaton.text[i] != automaton.text[border]) {
        border = automaton.border[border - 1];
      }
      if (automaton.text[i] == automaton.text[border]) ++border;
      automaton.border[i] = border;
    }
    automata_.push_back(std::move(automaton));
  }
}

bool StopStrings::EndsWith(int32_t token) {
  for (const char byte : token_bytes_(token)) Read(byte);
  return match_.has_value();
}

void StopStrings::Read(char byte) {
  ++num_text_bytes_;
  const auto value = static_cast<unsigned char>(byte);
  if (num_missing_ > 0 && (value & 0xC0) == 0x80) {
    --num_missing_;
  } else {
    character_begin_ = num_text_bytes_ - 1;
    num_missing_ = NumContinuationBytes(value);
  }
  if (num_missing_ == 0) character_begin_ = num_text_bytes_;
  if (match_) return;
  for (size_t s = 0; s < automata_.size(); ++s) {
    Automaton& automaton = automata_[s];
    size_t& matched = automaton.num_matched;
    while (matched > 0 && automaton.text[matched] != byte) matched = automaton.border[matched - 1];
    if (automaton.text[matched] == byte) ++matched;
    if (matched < automaton.text.size()) continue;
    if (!match_ || num_text_bytes_ - matched < match_->begin) {
      match_ = Match{num_text_bytes_ - matched, num_text_bytes_, s};
    }
    matched = automaton.border[matched - 1];
  }
}

size_t StopStrings::num_shown_bytes() const {
  if (match_) return match_->begin;
  size_t longest = 0;
  for (const Automaton& automaton : automata_) longest = std::max(longest, automaton.num_matched);
  return std::min(num_text_bytes_ - longest, character_begin_);
}

}  // namespace rollcall
