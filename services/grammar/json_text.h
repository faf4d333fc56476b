// Pieces of JSON text: strings, numbers, whitespace, values of any shape.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "services/grammar/automaton.h"
#include "services/grammar/code_points.h"
#include "services/grammar/regex.h"

namespace rollcall {

// A whole number that bounds a number.
struct NumberBound {
  int64_t value = 0;
  bool is_exclusive = false;
};

// Makes pieces in one builder, which it borrows.
class JsonText {
 public:
  using Piece = AutomatonBuilder::Piece;

  explicit JsonText(AutomatonBuilder* builder);

  Piece Whitespace() { return builder_.Call(whitespace_); }
  Piece AnyValue() { return builder_.Call(any_value_); }
  // One character of a string, escaped where it must be.
  Piece Character() { return builder_.Call(character_); }
  Piece String(int min_length, int max_length);  // max_length -1: no bound
  // A string somewhere in which the expression matches.
  Piece Pattern(const std::vector<RegexAlternative>& alternatives);
  // A string without escapes that is none of these.
  Piece StringExcept(const std::vector<std::string>& names);
  Piece Number();
  Piece Number(std::optional<NumberBound> min, std::optional<NumberBound> max);
  Piece Integer(std::optional<int64_t> min, std::optional<int64_t> max);
  // Whitespace on both sides of a comma or a colon.
  Piece Between(std::string_view separator);
  // `open`, items apart by commas, `close`. min and max count the items; max -1: no bound.
  Piece List(std::string_view open, const std::function<Piece()>& item, int min, int max,
             std::string_view close);
  Piece Sequence(const std::vector<Piece>& pieces);
  // A fixed expression of our own.
  Piece Expression(std::string_view pattern);

 private:
  void DefineAnyValue();
  // Decimal digits of the numbers in [min, max], both >= 0, without leading zeros.
  static std::string DigitsBetween(int64_t min, std::optional<int64_t> max);
  void AddFractions(std::string_view sign, std::optional<NumberBound> min,
                    std::optional<NumberBound> max, std::vector<Piece>* pieces);

  AutomatonBuilder& builder_;
  int32_t whitespace_ = 0;
  int32_t character_ = 0;
  int32_t any_value_ = 0;
};

}  // namespace rollcall
