// The decoders of tokenizer.json: text from tokens, as soon as it is final.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/text/pattern.h"

namespace rollcall {

// Tokens in the byte-level alphabet become bytes, all of them one text.
struct ByteLevelDecoder {};
// The replacement becomes a space, in the first token nothing unless `keep_first`.
struct MetaspaceDecoder {
  char32_t replacement = 0x2581;
  bool keep_first = false;
};
// A space in front of all tokens but the first and those with the prefix, which goes.
struct WordPieceDecoder {
  std::string prefix = "##";
  bool cleanup = true;
};
// Runs of <0x0A> become text; U+FFFD for each of a run that is no UTF-8.
struct ByteFallbackDecoder {};
// All tokens become one.
struct FuseDecoder {};
// Takes away up to `start` times the character in front, up to `stop` times behind.
struct StripDecoder {
  char32_t content = ' ';
  size_t start = 0;
  size_t stop = 0;
};
struct ReplaceDecoder {
  Pattern pattern;
  std::string content;
};
// The suffix becomes a space, in the last token nothing.
struct BpeDecoder {
  std::string suffix = "</w>";
};
// Tokens are joined by spaces: what the format says when there is no decoder.
struct SpacesDecoder {};
using DecoderStep =
    std::variant<ByteLevelDecoder, MetaspaceDecoder, WordPieceDecoder, ByteFallbackDecoder,
                 FuseDecoder, StripDecoder, ReplaceDecoder, BpeDecoder, SpacesDecoder>;

// Immutable and thread-safe.
class TokenDecoder {
 public:
  explicit TokenDecoder(std::vector<DecoderStep> steps = {});

  // What a token of the vocabulary is after the steps at the front that look at nothing but the
  // token; the rest starts from that. kResourceExhausted: a regex gave up.
  StatusOr<std::string> Prepare(std::string_view token) const;
  // Whether the text is the prepared tokens in a row, but for what is no UTF-8.
  bool IsConcatenation() const;

  // What a prepared token adds to a text that another began.
  std::string BytesInside(std::string_view token) const;

  // One text in the making; borrows the decoder.
  class Stream {
   public:
    explicit Stream(const TokenDecoder& decoder);
    // Takes a prepared token and appends what is final now.
    Status Push(std::string_view token, std::string* out);
    // Appends the rest. The stream then begins anew.
    Status Finish(std::string* out);

   private:
    struct State {
      bool is_first = true;
      bool has_held = false;
      std::string held;
      size_t count = 0;
    };
    Status Token(size_t step, std::string_view token, std::string* out);
    // A part of the one token that all tokens before the step have become.
    Status Part(size_t step, std::string_view part, std::string* out);
    Status Flush(size_t step, std::string* out);
    Status FlushBytes(size_t step, std::string* out);
    Status StripPart(size_t step, std::string_view part, std::string* out);

    const TokenDecoder& decoder_;
    std::vector<State> states_;
  };

 private:
  std::vector<DecoderStep> steps_;
  size_t num_prepared_ = 0;      // steps done by Prepare()
  bool bytes_prepared_ = false;  // the next one is ByteLevel, and its tokens are bytes already
  size_t fused_from_ = 0;        // steps from here on get one token
};

}  // namespace rollcall
