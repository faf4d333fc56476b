// The text of one completion as its tokens come, and the place where a stop string ends it.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rollout_worker/sampler/stop_strings.h"
#include "services/common/text/tokenizer.h"

namespace rollcall {

struct CompletionTextOptions {
  std::shared_ptr<const Tokenizer> tokenizer;
  Tokenizer::Skip skip = Tokenizer::Skip::kSpecial;
  std::vector<std::string> stops;  // passed CheckStopStrings
  // Stop strings are looked for in what comes after so many tokens.
  int32_t min_tokens = 0;
  // The stop string is part of the text.
  bool includes_stop = false;
};

// Not thread-safe.
class CompletionText {
 public:
  explicit CompletionText(CompletionTextOptions options);

  // Takes the next token; a token that is not to be shown is not given.
  void Push(int32_t token);
  // No token follows.
  void Finish();

  bool is_stopped() const { return stops_ && stops_->match(); }
  // Which of the stop strings; empty while none was found.
  std::string stop() const;

  // Text that is final and was not taken yet: whole characters that no stop string can begin in.
  std::string Take();

 private:
  void Add(std::string text, bool is_searched);
  size_t NumFinalBytes() const;

  const CompletionTextOptions options_;
  const std::unique_ptr<Detokenizer> detokenizer_;
  std::optional<StopStrings> stops_;
  std::string pushed_;  // what stops_ reads next
  int32_t num_tokens_ = 0;
  bool is_finished_ = false;
  std::string text_;           // from num_taken_ on
  size_t num_bytes_ = 0;       // of the whole text
  size_t num_taken_ = 0;       // of the whole text
  size_t num_unsearched_ = 0;  // bytes before what stops_ read
};

// Ends a completion at its stop strings. Keeps the tokenizer alive.
class TextStopWatcher final : public StopWatcher {
 public:
  explicit TextStopWatcher(CompletionTextOptions options) : text_(std::move(options)) {}
  bool EndsWith(int32_t token) override {
    text_.Push(token);
    text_.Take();
    return text_.is_stopped();
  }

 private:
  CompletionText text_;
};

}  // namespace rollcall
