// The split patterns of GPT-2, Llama 3 and Qwen 2 by hand: the same words as the regular
// expressions, several times as fast.
#pragma once

#include <string_view>

namespace rollcall {

enum class WordScanner { kNone, kGpt2, kLlama3, kQwen2 };

// The scanner that does what the pattern (as in tokenizer.json) does.
WordScanner ScannerFor(std::string_view pattern);

// Length of the word at the front of `text`, which is UTF-8 and not empty. Words follow each other
// without a gap. `scanner` is not kNone.
size_t ScanWord(WordScanner scanner, std::string_view text);

}  // namespace rollcall
