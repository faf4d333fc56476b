// Tokens of a template, with jinja2's rules for white space: trim_blocks and lstrip_blocks on, the
// last newline of the template dropped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall::jinja {

enum class TokenKind : uint8_t {
  kData,           // text
  kVariableBegin,  // {{
  kVariableEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,      // text
  kString,    // text, escapes resolved
  kInteger,   // integer
  kFloat,     // number
  kOperator,  // text: one of ( ) [ ] { } . , : ; | ~ + - * / // % ** == != < <= > >= =
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;
  int64_t integer = 0;
  double number = 0;
};

// An error of a template at a line of it; Annotate with the name of the template gives name:line.
Status AtLine(const Status& status, int line);

// Ends with kEnd. kInvalidArgument names the line and what is wrong there.
StatusOr<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace rollcall::jinja
