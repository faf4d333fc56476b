// Regular expressions as grammars.
//
// Syntax, as RE2 and PCRE2 have it: literals, ., [...] with ranges and negation, \d \w \s \D \W \S
// (ASCII), \n \t \r \f \v \a \0, \xHH, \x{H...}, \uHHHH, escaped punctuation, (...), (?:...),
// (?P<name>...) and (?<name>...), |, * + ? {n} {n,} {n,m}, also with a lazy ? behind it, which
// changes nothing here. ^ and $ at the ends of a top-level alternative. Text is UTF-8, '.' is any
// character but \n. Look-around, back-references, word boundaries, flags, possessive repeats and
// Unicode classes are refused.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/grammar/automaton.h"
#include "services/grammar/code_points.h"

namespace rollcall {

// Syntax tree of a regular expression.
struct RegexNode {
  enum class Kind { kEmpty, kSet, kConcatenation, kAlternatives, kRepeat };
  Kind kind = Kind::kEmpty;
  CodePointSet set;                 // kSet
  std::vector<RegexNode> children;  // one for kRepeat
  int min = 0;                      // kRepeat
  int max = 0;                      // kRepeat; -1: no bound
};

// A top-level alternative, and whether it began with ^ and ended with $.
struct RegexAlternative {
  RegexNode node;
  bool at_begin = false;
  bool at_end = false;
};

// kInvalidArgument says what is wrong or not supported, and at which byte.
StatusOr<std::vector<RegexAlternative>> ParseRegex(std::string_view pattern);

// How the characters of a set are written in the text: adds the piece that reads any one of them.
using CharacterPiece = AutomatonBuilder::Piece (*)(const CodePointSet& set, AutomatonBuilder*);
AutomatonBuilder::Piece Utf8Piece(const CodePointSet& set, AutomatonBuilder* builder);

AutomatonBuilder::Piece RegexPiece(const RegexNode& node, CharacterPiece characters,
                                   AutomatonBuilder* builder);

// The whole text matches the pattern. kInvalidArgument as ParseRegex and AutomatonBuilder::Finish.
StatusOr<ByteAutomaton> CompileRegex(std::string_view pattern);

}  // namespace rollcall
