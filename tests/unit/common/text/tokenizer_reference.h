// Comparison with the reference library (Python package `tokenizers`).
#pragma once

#include <string>
#include <vector>

namespace rollcall::testing {

// Whether the reference is there; prints what ctest counts as skipped when not.
bool HasReferenceTokenizers();
// Runs reference_tokenizer.py from the repository root.
int RunReference(const std::string& arguments);

// Trains the families of a group there, and compares `count` texts (and some edges) per family:
// ids with special tokens and as text, byte ranges, decoded text, all at once and one id at a time.
void CompareWithReference(const std::string& group, const std::vector<std::string>& families,
                          int count);
// The same ids for texts of every code point.
void CompareEveryCharacter(const std::string& group, const std::vector<std::string>& families);

}  // namespace rollcall::testing
