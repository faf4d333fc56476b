#include "services/common/text/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/common/text/json_fields.h"
#include "services/common/text/model_json.h"
#include "services/common/text/steps_json.h"

namespace rollcall {
namespace {

using Json = TokenizerJson;

constexpr int kMaxDepth = 32;
constexpr size_t kMaxAddedTokens = size_t{1} << 20;

using VocabByContent = std::unordered_map<std::string_view, int32_t>;

StatusOr<AddedToken> ParseAddedToken(const Json& value, const std::string& where) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(
      value, where, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
  AddedToken token;
  ROLLCALL_ASSIGN_OR_RETURN(const auto content, GetString(value, where, "content"));
  if (!content || content->empty()) {
    return WrongField(where,
                      "content is not a text of 1 to " + std::to_string(kMaxTokenBytes) + " bytes");
  }
  token.content = *content;
  ROLLCALL_ASSIGN_OR_RETURN(token.id, GetTokenId(value.value("id", Json()), where));
  ROLLCALL_ASSIGN_OR_RETURN(token.special, GetBool(value, where, "special", false));
  ROLLCALL_ASSIGN_OR_RETURN(token.normalized, GetBool(value, where, "normalized", !token.special));
  ROLLCALL_ASSIGN_OR_RETURN(token.single_word, GetBool(value, where, "single_word", false));
  ROLLCALL_ASSIGN_OR_RETURN(token.lstrip, GetBool(value, where, "lstrip", false));
  ROLLCALL_ASSIGN_OR_RETURN(token.rstrip, GetBool(value, where, "rstrip", false));
  return token;
}

// The reference numbers added tokens by itself: those of the vocabulary keep their id, others
// follow the vocabulary in the order of the file. A file that says otherwise would read differently
// there and here.
Status ParseAddedTokens(const Json& list, const VocabByContent& by_content,
                        std::vector<AddedToken>* tokens) {
  if (list.is_null()) return OkStatus();
  if (!list.is_array() || list.size() > kMaxAddedTokens) {
    return WrongField("added_tokens",
                      "is not a list of at most " + std::to_string(kMaxAddedTokens));
  }
  std::unordered_set<std::string> contents;
  const auto vocab_size = static_cast<int64_t>(by_content.size());
  int64_t largest = -1;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = "added_tokens[" + std::to_string(i) + "]";
    ROLLCALL_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(list[i], where));
    if (!contents.insert(token.content).second) {
      return WrongField(where, "'" + token.content + "' is given twice");
    }
    const auto in_vocab = by_content.find(token.content);
    const int64_t expected = in_vocab != by_content.end() ? in_vocab->second
                             : largest >= vocab_size      ? largest + 1
                                                          : vocab_size;
    if (token.id != expected) {
      return WrongField(where, "'" + token.content + "' has id " + std::to_string(token.id) +
                                   ", expected " + std::to_string(expected));
    }
    largest = std::max<int64_t>(largest, token.id);
    tokens->push_back(std::move(token));
  }
  return OkStatus();
}

StatusOr<Json> ParseJson(std::string_view json) {
  bool too_deep = false;
  try {
    Json root = Json::parse(json, [&](int depth, Json::parse_event_t, const Json&) {
      too_deep = too_deep || depth > kMaxDepth;
      return !too_deep;
    });
    if (too_deep) return InvalidArgument("nested deeper than " + std::to_string(kMaxDepth));
    return root;
  } catch (const Json::exception& e) {
    return InvalidArgument(std::string("not JSON: ") + e.what());
  }
}

Status CheckSharedIds(const TokenizerParts& parts) {
  std::unordered_map<int32_t, std::string_view> added;
  for (const AddedToken& token : parts.added_tokens) added.emplace(token.id, token.content);
  for (const VocabToken& token : parts.vocab) {
    const auto it = added.find(token.id);
    if (it != added.end() && it->second != token.content) {
      return WrongField("added_tokens", "'" + std::string(it->second) + "' and '" + token.content +
                                            "' of model.vocab share id " +
                                            std::to_string(token.id));
    }
  }
  return OkStatus();
}

}  // namespace

StatusOr<TokenizerParts> ParseTokenizerJson(std::string_view json) {
  ROLLCALL_ASSIGN_OR_RETURN(const Json root, ParseJson(json));
  // Truncation and padding are the caller's.
  ROLLCALL_RETURN_IF_ERROR(
      CheckKeys(root, "tokenizer",
                {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                 "post_processor", "decoder", "model"}));
  const auto member = [&](const char* key) { return root.value(key, Json()); };
  TokenizerParts parts;
  ROLLCALL_RETURN_IF_ERROR(ParseNormalizer(member("normalizer"), "normalizer", &parts.normalizer));
  ROLLCALL_RETURN_IF_ERROR(
      ParsePreTokenizer(member("pre_tokenizer"), "pre_tokenizer", &parts.pre_tokenizer));
  ROLLCALL_RETURN_IF_ERROR(
      ParsePostProcessor(member("post_processor"), "post_processor", &parts.post_processor));
  ROLLCALL_RETURN_IF_ERROR(ParseDecoder(member("decoder"), "decoder", &parts.decoder));
  if (parts.decoder.empty()) {
    if (member("decoder").is_null()) {
      parts.decoder.emplace_back(SpacesDecoder{});
    } else {
      parts.decoder.emplace_back(FuseDecoder{});  // an empty sequence
    }
  }

  const auto model = root.find("model");
  if (model == root.end()) return WrongField("model", "is missing");
  ROLLCALL_RETURN_IF_ERROR(ParseVocab(*model, &parts));
  VocabByContent by_content;
  for (const VocabToken& token : parts.vocab) by_content.insert_or_assign(token.content, token.id);
  ROLLCALL_RETURN_IF_ERROR(
      ParseAddedTokens(member("added_tokens"), by_content, &parts.added_tokens));
  ROLLCALL_RETURN_IF_ERROR(CheckSharedIds(parts));
  std::vector<int32_t> forbidden;
  for (const AddedToken& token : parts.added_tokens) {
    if (token.special) forbidden.push_back(token.id);
  }
  ROLLCALL_RETURN_IF_ERROR(ParseModel(*model, forbidden, &parts));
  return parts;
}

}  // namespace rollcall
