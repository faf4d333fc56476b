// A cursor over tokens.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/template/lexer.h"

namespace rollcall::jinja {

class TokenStream {
 public:
  // `tokens` ends with kEnd and outlives the stream.
  explicit TokenStream(const std::vector<Token>& tokens) : tokens_(tokens) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  int line() const { return current().line; }
  bool At(TokenKind kind) const { return current().kind == kind; }
  bool AtOperator(std::string_view text) const { return Is(current(), TokenKind::kOperator, text); }
  bool AtName(std::string_view text) const { return Is(current(), TokenKind::kName, text); }
  bool NextIsName(std::string_view text) const { return Is(next(), TokenKind::kName, text); }
  bool NextIsOperator(std::string_view text) const {
    return Is(next(), TokenKind::kOperator, text);
  }

  void Skip() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  bool SkipOperator(std::string_view text) { return SkipIf(AtOperator(text)); }
  bool SkipName(std::string_view text) { return SkipIf(AtName(text)); }

  Status Expect(TokenKind kind) {
    return SkipIf(At(kind)) ? OkStatus() : Expected(Describe({kind, 0, {}}));
  }
  Status ExpectOperator(std::string_view text) {
    return SkipOperator(text) ? OkStatus() : Expected("'" + std::string(text) + "'");
  }
  Status ExpectName(std::string_view text) {
    return SkipName(text) ? OkStatus() : Expected("'" + std::string(text) + "'");
  }
  // Any name.
  StatusOr<std::string> TakeName() {
    if (!At(TokenKind::kName)) return Expected("a name");
    std::string name = current().text;
    Skip();
    return name;
  }

  // "expected X, found Y" at the current line.
  Status Expected(std::string_view what) const {
    return Error("expected " + std::string(what) + ", found " + Describe(current()));
  }
  Status Error(std::string_view message) const { return AtLine(InvalidArgument(message), line()); }

  static std::string Describe(const Token& token) {
    switch (token.kind) {
      case TokenKind::kData:
        return "text";
      case TokenKind::kVariableBegin:
        return "'{{'";
      case TokenKind::kVariableEnd:
        return "'}}'";
      case TokenKind::kBlockBegin:
        return "'{%'";
      case TokenKind::kBlockEnd:
        return "'%}'";
      case TokenKind::kString:
        return "a string";
      case TokenKind::kInteger:
      case TokenKind::kFloat:
        return "a number";
      case TokenKind::kEnd:
        return "the end of the template";
      case TokenKind::kName:
      case TokenKind::kOperator:
        break;
    }
    return "'" + token.text + "'";
  }

 private:
  static bool Is(const Token& token, TokenKind kind, std::string_view text) {
    return token.kind == kind && token.text == text;
  }
  bool SkipIf(bool matches) {
    if (matches) Skip();
    return matches;
  }

  const std::vector<Token>& tokens_;
  size_t at_ = 0;
};

}  // namespace rollcall::jinja
