#include "reward_server/verifier/json_format.h"

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "reward_server/verifier/answer_text.h"

namespace rollcall {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr std::string_view kFence = "```";

std::vector<std::string> SplitKeys(std::string_view keys) {
  std::vector<std::string> split;
  while (!keys.empty()) {
    const size_t comma = keys.find(',');
    const std::string_view key = StripWhiteSpace(keys.substr(0, comma));
    if (!key.empty()) split.emplace_back(key);
    keys.remove_prefix(comma == std::string_view::npos ? keys.size() : comma + 1);
  }
  return split;
}

// The text between an opening fence line ("```json") and a closing fence; the text itself without
// them.
std::string_view Unfenced(std::string_view text) {
  const size_t line_end = text.find('\n');
  if (!text.starts_with(kFence) || !text.ends_with(kFence) || line_end == std::string_view::npos ||
      text.size() < line_end + 1 + kFence.size()) {
    return text;
  }
  return StripWhiteSpace(text.substr(line_end + 1, text.size() - line_end - 1 - kFence.size()));
}

class JsonFormat final : public Scorer {
 public:
  explicit JsonFormat(const ScorerOptions& options)
      : type_(options.GetText("type")),
        required_keys_(SplitKeys(options.GetText("required_keys"))),
        allow_fence_(options.GetBool("allow_fence")) {}

  ScoreResult Score(const ScoreInput& input, absl::Time) const override {
    return ScoreResult::Value(IsGood(input.completion) ? 1 : 0);
  }

  ScorerReads reads() const override { return {}; }

 private:
  bool IsGood(std::string_view completion) const {
    std::string_view text = StripWhiteSpace(completion);
    if (allow_fence_) text = Unfenced(text);
    bool too_deep = false;
    const Json value = Json::parse(
        text,
        [&](int depth, Json::parse_event_t, const Json&) {
          too_deep = too_deep || depth > kMaxDepth;
          return !too_deep;
        },
        /*allow_exceptions=*/false);
    if (too_deep || value.is_discarded()) return false;
    if (type_ == "object" && !value.is_object()) return false;
    if (type_ == "array" && !value.is_array()) return false;
    for (const std::string& key : required_keys_) {
      if (!value.is_object() || !value.contains(key)) return false;
    }
    return true;
  }

  const std::string type_;
  const std::vector<std::string> required_keys_;
  const bool allow_fence_;
};

}  // namespace

StatusOr<std::unique_ptr<const Scorer>> MakeJsonFormat(const ScorerOptions& options) {
  return std::make_unique<const JsonFormat>(options);
}

}  // namespace rollcall
