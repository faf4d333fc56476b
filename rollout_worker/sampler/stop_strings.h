// Ends a completion at the first of some strings, wherever the borders of its tokens lie.
//
// The text is the bytes of the completion's tokens, one after the other. It is read byte by byte,
// by one automaton per string (Knuth, Morris, Pratt 1977), so a string is found the moment that it
// is complete, in time linear in the text. When strings become complete at the same byte, the
// longest counts: the text is cut where it begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "rollout_worker/sampler/stop_watcher.h"
#include "services/base/status/status.h"

namespace rollcall {

struct StopLimits {
  static constexpr size_t kMaxStrings = 64;
  static constexpr size_t kMaxBytes = 1024;  // of one string
};

// kInvalidArgument: too many, one that is empty or too long.
Status CheckStopStrings(const std::vector<std::string>& stops);

// Of one completion. Not thread-safe; token_bytes is called on the caller's thread.
class StopStrings : public StopWatcher {
 public:
  // The strings passed CheckStopStrings. `token_bytes` gives the bytes that a token adds to the
  // text: none for a token that shows nothing, such as an end marker.
  StopStrings(std::vector<std::string> stops, std::function<std::string(int32_t)> token_bytes);

  bool EndsWith(int32_t token) override;

  // Where in the text, in bytes.
  struct Match {
    size_t begin = 0;  // the text is cut here, or
    size_t end = 0;    // here where the string is to be shown; bytes of the last token may follow
    size_t stop = 0;   // which of the strings
  };
  const std::optional<Match>& match() const { return match_; }

  // Bytes of the text so far that can be shown: those before the match; without one, the whole
  // characters that no string can still begin in. Never shrinks.
  size_t num_shown_bytes() const;
  // Of the tokens so far.
  size_t num_text_bytes() const { return num_text_bytes_; }

 private:
  struct Automaton {
    std::string text;
    // Entry i: length of the longest proper prefix of the first i + 1 bytes that is also their end.
    std::vector<size_t> border;
    size_t num_matched = 0;
  };

  void Read(char byte);

  const std::function<std::string(int32_t)> token_bytes_;
  std::vector<Automaton> automata_;
  size_t num_text_bytes_ = 0;
  // Begin of the UTF-8 character that is not complete; num_text_bytes_ when there is none.
  size_t character_begin_ = 0;
  int num_missing_ = 0;  // bytes of it
  std::optional<Match> match_;
};

}  // namespace rollcall
