// JSON schemas as grammars.
//
// Supported: type (one or a list), properties, required, additionalProperties, items, prefixItems,
// minItems, maxItems, pattern, minLength, maxLength, minimum, maximum, exclusiveMinimum,
// exclusiveMaximum, enum, const, anyOf, oneOf whose alternatives cannot overlap, allOf of one,
// $ref within the document, $defs and definitions, and schemas that are true, false or {}.
// Annotations (title, description, default, examples, format, x-...) say nothing about the text.
// Every other key is refused, so that what is generated always satisfies the whole schema.
//
// Of the texts that satisfy it the grammar has those that a writer would produce: members in the
// order of `properties`, then additional ones (none beside `properties` unless
// additionalProperties asks for them, and then with names that need no escape), whitespace between
// the parts only, at most kMaxWhitespace characters in one place; enum and const as JSON writes
// them shortest; integers without fraction or exponent; bounded numbers without exponent. Bounds of
// numbers that are no integers must be whole.
#pragma once

#include <string_view>

#include "services/base/status/status.h"
#include "services/grammar/automaton.h"

namespace rollcall {

inline constexpr int kMaxWhitespace = 20;

// kInvalidArgument: the schema is no JSON, or names the place of what is wrong or not supported.
StatusOr<ByteAutomaton> CompileJsonSchema(std::string_view schema);

}  // namespace rollcall
