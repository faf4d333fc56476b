#include "services/common/text/steps_json.h"
#include "services/common/text/tokenizer_json.h"

namespace rollcall {
namespace {

using Json = TokenizerJson;

constexpr std::string_view kSupported =
    "BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing";
constexpr size_t kMaxIds = 4096;

// ["</s>", 2]
StatusOr<int32_t> GetPair(const Json& value, const std::string& where, const char* key) {
  const auto it = value.find(key);
  if (it == value.end() || !it->is_array() || it->size() != 2 || !(*it)[0].is_string()) {
    return WrongField(where, std::string(key) + " is not [text, id]");
  }
  return GetTokenId((*it)[1], where + "." + key);
}

StatusOr<std::vector<int32_t>> ParseTemplate(const Json& value, const std::string& where) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "single", "pair", "special_tokens"}));
  ROLLCALL_ASSIGN_OR_RETURN(const Json* single, GetList(value, where, "single"));
  const Json tokens = value.value("special_tokens", Json::object());
  std::vector<int32_t> ids;
  for (size_t i = 0; i < single->size(); ++i) {
    const std::string at = where + ".single[" + std::to_string(i) + "]";
    const Json& piece = (*single)[i];
    if (!piece.is_object() || piece.size() != 1 || !piece.front().is_object()) {
      return NotSupported(at, piece, "{\"Sequence\": ...}, {\"SpecialToken\": ...}");
    }
    ROLLCALL_ASSIGN_OR_RETURN(const auto id, GetString(piece.front(), at, "id"));
    if (piece.contains("Sequence")) {
      if (id != "A") return WrongField(at, "a single text is sequence \"A\"");
      ids.push_back(TokenizerParts::kTheText);
      continue;
    }
    if (!piece.contains("SpecialToken") || !id) {
      return NotSupported(at, piece, "{\"Sequence\": ...}, {\"SpecialToken\": ...}");
    }
    const auto token = tokens.is_object() ? tokens.find(*id) : tokens.end();
    if (token == tokens.end() || !token->is_object()) {
      return WrongField(at, "'" + *id + "' is not in special_tokens");
    }
    ROLLCALL_ASSIGN_OR_RETURN(const Json* token_ids,
                              GetList(*token, where + ".special_tokens." + *id, "ids"));
    for (const Json& token_id : *token_ids) {
      ROLLCALL_ASSIGN_OR_RETURN(const int32_t number,
                                GetTokenId(token_id, where + ".special_tokens." + *id));
      ids.push_back(number);
    }
  }
  return ids;
}

}  // namespace

Status ParsePostProcessor(const Json& value, const std::string& where, std::vector<int32_t>* ids) {
  if (value.is_null()) return OkStatus();
  const std::string type = TypeOf(value);
  if (type == "ByteLevel") {
    // Only trims the ranges of tokens.
    return CheckKeys(value, where, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  }
  if (type == "Sequence") {
    ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "processors"}));
    ROLLCALL_ASSIGN_OR_RETURN(const Json* list, GetList(value, where, "processors"));
    for (size_t i = 0; i < list->size(); ++i) {
      ROLLCALL_RETURN_IF_ERROR(
          ParsePostProcessor((*list)[i], where + ".processors[" + std::to_string(i) + "]", ids));
    }
    return OkStatus();
  }
  std::vector<int32_t> inner;
  if (type == "TemplateProcessing") {
    ROLLCALL_ASSIGN_OR_RETURN(inner, ParseTemplate(value, where));
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    ROLLCALL_RETURN_IF_ERROR(
        CheckKeys(value, where, {"type", "sep", "cls", "trim_offsets", "add_prefix_space"}));
    ROLLCALL_ASSIGN_OR_RETURN(const int32_t cls, GetPair(value, where, "cls"));
    ROLLCALL_ASSIGN_OR_RETURN(const int32_t sep, GetPair(value, where, "sep"));
    inner = {cls, TokenizerParts::kTheText, sep};
  } else {
    return NotSupported(where, value, kSupported);
  }
  std::vector<int32_t> all;
  for (const int32_t id : inner) {
    if (id == TokenizerParts::kTheText) {
      all.insert(all.end(), ids->begin(), ids->end());
    } else {
      all.push_back(id);
    }
    if (all.size() > kMaxIds) {
      return WrongField(where, "adds more than " + std::to_string(kMaxIds) + " tokens");
    }
  }
  *ids = std::move(all);
  return OkStatus();
}

}  // namespace rollcall
