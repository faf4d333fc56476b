#include "reward_server/scoring/content_key.h"

#include <array>
#include <string>
#include <vector>

namespace rollcall {
namespace {

void AddField(std::string_view field, std::string* bytes) {
  uint64_t size = field.size();
  std::array<char, sizeof(size)> prefix{};
  for (char& c : prefix) {
    c = static_cast<char>(size & 0xFF);
    size >>= 8;
  }
  bytes->append(prefix.data(), prefix.size());
  bytes->append(field);
}

void AddIds(const std::vector<int32_t>& ids, std::string* bytes) {
  AddField({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)}, bytes);
}

}  // namespace

Hash128 ContentKey(std::string_view identity, ScorerReads reads, const ScoreInput& input) {
  std::string bytes;
  bytes.reserve(identity.size() + input.prompt.size() + input.completion.size() + 256);
  AddField(identity, &bytes);
  AddField(input.prompt, &bytes);
  AddField(input.completion, &bytes);
  if (reads.answer) {
    // "No answer" and "the empty answer" are two things.
    AddField(input.answer.has_value() ? "1" : "0", &bytes);
    AddField(input.answer.value_or(""), &bytes);
  }
  if (reads.row) AddField(input.row_json, &bytes);
  if (reads.token_ids) {
    AddIds(input.prompt_token_ids, &bytes);
    AddIds(input.completion_token_ids, &bytes);
  }
  return HashBytes128(std::as_bytes(std::span(bytes.data(), bytes.size())));
}

}  // namespace rollcall
