// Reading the objects of a tokenizer.json: every error names the key.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "services/base/status/status.h"
#include "services/common/text/pattern.h"

namespace rollcall {

using TokenizerJson = nlohmann::json;

constexpr size_t kMaxTokenBytes = 4096;
constexpr int64_t kMaxTokenId = int64_t{1} << 24;
// Steps of a normalizer, a pre-tokenizer, a decoder, with those of sequences inside.
constexpr size_t kMaxSteps = 64;

Status WrongField(std::string_view key, std::string_view what);
// "KEY: VALUE is not supported; supported: ..."
Status NotSupported(std::string_view key, const TokenizerJson& value, std::string_view supported);
// The value as text of at most 80 bytes.
std::string ShortJson(const TokenizerJson& value);

// kInvalidArgument when it is no object or has another key.
Status CheckKeys(const TokenizerJson& object, std::string_view where,
                 std::initializer_list<std::string_view> known);
// The member `type`, empty when there is none.
std::string TypeOf(const TokenizerJson& object);

StatusOr<bool> GetBool(const TokenizerJson& object, std::string_view where, const char* key,
                       bool absent_value);
// Nothing when it is absent or null.
StatusOr<std::optional<std::string>> GetString(const TokenizerJson& object, std::string_view where,
                                               const char* key, size_t max_bytes = kMaxTokenBytes);
// A text of one character.
StatusOr<char32_t> GetCharacter(const TokenizerJson& object, std::string_view where,
                                const char* key);
// In [0, limit); it must be there.
StatusOr<int64_t> GetCount(const TokenizerJson& object, std::string_view where, const char* key,
                           int64_t limit);
StatusOr<int32_t> GetTokenId(const TokenizerJson& value, std::string_view where);
// {"String": ...} or {"Regex": ...} under the key `pattern`.
StatusOr<Pattern> GetPattern(const TokenizerJson& object, const std::string& where);

// The elements of a sequence; an element may be a sequence, too.
StatusOr<const TokenizerJson*> GetList(const TokenizerJson& object, std::string_view where,
                                       const char* key);

}  // namespace rollcall
