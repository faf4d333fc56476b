// Text to token ids and back, as a Hugging Face tokenizer.json says. docs/tokenizers.md has what is
// supported and how it is compared with the `tokenizers` library.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

// A range of bytes [begin, end) of the text that was encoded.
struct ByteRange {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool operator==(const ByteRange&) const = default;
};

// Ids, and for each of them the part of the original text it came from: whole characters, so
// tokens that share a character have overlapping ranges. What a normalizer or pre-tokenizer put in
// (a prefix space) has the range of the character it was put beside.
struct EncodedText {
  std::vector<int32_t> ids;
  std::vector<ByteRange> ranges;  // one for each id
};

// Text from ids that come one by one; made by a tokenizer, used by one thread.
class Detokenizer {
 public:
  virtual ~Detokenizer() = default;
  // What is final now: whole characters, and nothing that a later id could still change. All that
  // Push() and Finish() return, one after the other, is Decode() of all the ids.
  // kInvalidArgument: an id outside the vocabulary; it is left out.
  virtual StatusOr<std::string> Push(int32_t id) = 0;
  // The rest. Then a new text begins.
  virtual StatusOr<std::string> Finish() = 0;
};

// Thread-safe and immutable.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Special tokens in the text become their ids only with kParse; user text takes kAsText, so that
  // text can never smuggle in a control token.
  enum class SpecialTokens { kAsText, kParse };
  // No BOS or EOS is added. kInvalidArgument: the text is not UTF-8, or has a part for which the
  // vocabulary has nothing, not even an unknown token. kResourceExhausted: a pattern of the
  // tokenizer gave up on the text.
  virtual StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                                SpecialTokens special) const = 0;
  // The same ids as Encode(), with their ranges.
  virtual StatusOr<EncodedText> EncodeWithOffsets(std::string_view text,
                                                  SpecialTokens special) const = 0;
  // The ids of Encode() with what the post-processor of the file puts around one text (BOS, EOS,
  // [CLS], [SEP]).
  virtual StatusOr<std::vector<int32_t>> EncodeForModel(std::string_view text,
                                                        SpecialTokens special) const = 0;
  enum class Skip { kNothing, kSpecial };
  // Bytes that are no valid UTF-8 become U+FFFD. kInvalidArgument: an id outside the vocabulary.
  virtual StatusOr<std::string> Decode(std::span<const int32_t> ids, Skip skip) const = 0;
  // Decode() one id at a time. The tokenizer must outlive the detokenizer.
  virtual std::unique_ptr<Detokenizer> NewDetokenizer(Skip skip) const = 0;
  // The bytes that a token adds to a text that others began: nothing for a special token or an id
  // that no token has; a part of a character where the vocabulary has such tokens.
  virtual std::string TokenBytes(int32_t id) const = 0;
  // Largest id + 1.
  virtual int32_t vocab_size() const = 0;
  // Id of a token by its exact content, -1 when there is none.
  virtual int32_t TokenId(std::string_view content) const = 0;
};

// kInvalidArgument names the file, the key in it, and what is wrong or not supported.
StatusOr<std::shared_ptr<const Tokenizer>> LoadTokenizer(const std::string& directory);
StatusOr<std::shared_ptr<const Tokenizer>> ParseTokenizer(std::string_view json,
                                                          std::string_view origin);

// A tokenizer.json without merges: the 256 bytes, and the special tokens after them
// ("<|endoftext|>" is id 256). Reads in `tokenizers`.
std::string ByteTokenizerJson();

// Fails when the tokenizer has ids that the model has no embedding for, naming both sizes.
Status CheckTokenizerFits(const Tokenizer& tokenizer, int64_t model_vocab_size);

}  // namespace rollcall
