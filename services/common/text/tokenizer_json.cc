#include "services/common/text/tokenizer_json.h"

#include <algorithm>
#include <initializer_list>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/common/text/byte_level.h"

namespace rollcall {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 32;
constexpr size_t kMaxTokens = size_t{1} << 22;
constexpr size_t kMaxMerges = size_t{1} << 22;
constexpr size_t kMaxTokenBytes = 4096;
constexpr int64_t kMaxId = int64_t{1} << 24;

Status Wrong(std::string_view key, std::string_view what) {
  return InvalidArgument(std::string(key) + ": " + std::string(what));
}

std::string Short(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

Status NotSupported(std::string_view key, const Json& value, std::string_view supported) {
  return Wrong(key, Short(value) + " is not supported; supported: " + std::string(supported));
}

bool IsNull(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null();
}

Status CheckKeys(const Json& object, std::string_view where,
                 std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return Wrong(where, "is not an object");
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return Wrong(where, "key '" + key + "' is not supported");
    }
  }
  return OkStatus();
}

StatusOr<bool> GetBool(const Json& object, std::string_view where, const char* key,
                       bool absent_value) {
  const auto it = object.find(key);
  if (it == object.end()) return absent_value;
  if (!it->is_boolean()) return Wrong(where, std::string(key) + " is not true or false");
  return it->get<bool>();
}

std::string TypeOf(const Json& object) {
  if (!object.is_object()) return "";
  const auto it = object.find("type");
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

StatusOr<int32_t> GetId(const Json& value, std::string_view where) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() >= kMaxId) {
    return Wrong(where, "id " + Short(value) + " is not in [0, " + std::to_string(kMaxId) + ")");
  }
  return static_cast<int32_t>(value.get<int64_t>());
}

Status ParseByteLevel(const Json& value, const std::string& where,
                      std::vector<PreTokenizerStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(
      CheckKeys(value, where, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  ROLLCALL_ASSIGN_OR_RETURN(const bool prefix_space,
                            GetBool(value, where, "add_prefix_space", true));
  ROLLCALL_ASSIGN_OR_RETURN(const bool use_regex, GetBool(value, where, "use_regex", true));
  if (prefix_space) steps->push_back({});
  if (use_regex) {
    ROLLCALL_ASSIGN_OR_RETURN(PreTokenizerStep step, IsolateByPattern(kGpt2Pattern));
    steps->push_back(std::move(step));
  }
  return OkStatus();
}

Status ParseSplit(const Json& value, const std::string& where,
                  std::vector<PreTokenizerStep>* steps) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "pattern", "behavior", "invert"}));
  const Json behavior = value.value("behavior", Json());
  if (behavior != "Isolated") return NotSupported(where + ".behavior", behavior, "\"Isolated\"");
  const auto pattern = value.find("pattern");
  if (pattern == value.end() || !pattern->is_object() || pattern->size() != 1 ||
      !pattern->contains("Regex") || !(*pattern)["Regex"].is_string()) {
    return NotSupported(where + ".pattern", pattern == value.end() ? Json() : *pattern,
                        "{\"Regex\": ...}");
  }
  StatusOr<PreTokenizerStep> step = IsolateByPattern((*pattern)["Regex"].get<std::string>());
  if (!step.ok()) return Annotate(step.status(), where + ".pattern");
  steps->push_back(*std::move(step));
  return OkStatus();
}

// The last step must be ByteLevel: it is what makes the words bytes.
Status ParsePreTokenizer(const Json& value, std::vector<PreTokenizerStep>* steps) {
  const std::string where = "pre_tokenizer";
  if (TypeOf(value) == "ByteLevel") return ParseByteLevel(value, where, steps);
  constexpr std::string_view kSupported =
      "ByteLevel, or a Sequence of Split (Regex, Isolated) that ends in ByteLevel";
  if (TypeOf(value) != "Sequence") return NotSupported(where, value, kSupported);
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(value, where, {"type", "pretokenizers"}));
  const Json parts = value.value("pretokenizers", Json());
  if (!parts.is_array() || parts.empty() || parts.size() > 16 ||
      TypeOf(parts.back()) != "ByteLevel") {
    return NotSupported(where + ".pretokenizers", parts, kSupported);
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string part_where = where + ".pretokenizers[" + std::to_string(i) + "]";
    const std::string type = TypeOf(parts[i]);
    if (type == "Split") {
      ROLLCALL_RETURN_IF_ERROR(ParseSplit(parts[i], part_where, steps));
    } else if (type == "ByteLevel" && i + 1 == parts.size()) {
      ROLLCALL_RETURN_IF_ERROR(ParseByteLevel(parts[i], part_where, steps));
    } else {
      return NotSupported(part_where, parts[i], kSupported);
    }
  }
  return OkStatus();
}

// Tokens by content as the file has them, in the byte-level alphabet, with their ids.
using VocabByContent = std::unordered_map<std::string, int32_t>;

StatusOr<VocabByContent> ParseVocab(const Json& model) {
  const auto vocab = model.find("vocab");
  if (vocab == model.end() || !vocab->is_object() || vocab->empty()) {
    return Wrong("model.vocab", "is not an object with tokens");
  }
  if (vocab->size() > kMaxTokens) {
    return Wrong("model.vocab", std::to_string(vocab->size()) + " tokens, the limit is " +
                                    std::to_string(kMaxTokens));
  }
  VocabByContent by_content;
  by_content.reserve(vocab->size());
  std::unordered_set<int32_t> ids;
  for (const auto& [content, value] : vocab->items()) {
    if (content.empty() || content.size() > kMaxTokenBytes) {
      return Wrong("model.vocab", "a token has " + std::to_string(content.size()) +
                                      " bytes, allowed are 1 to " + std::to_string(kMaxTokenBytes));
    }
    ROLLCALL_ASSIGN_OR_RETURN(const int32_t id, GetId(value, "model.vocab"));
    if (!ids.insert(id).second) {
      return Wrong("model.vocab", "id " + std::to_string(id) + " is given twice");
    }
    by_content.emplace(content, id);
  }
  return by_content;
}

StatusOr<std::pair<std::string, std::string>> ParseMerge(const Json& value,
                                                         const std::string& where) {
  std::string left;
  std::string right;
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      left = text.substr(0, space);
      right = text.substr(space + 1);
    }
  } else if (value.is_array() && value.size() == 2 && value[0].is_string() &&
             value[1].is_string()) {
    left = value[0].get<std::string>();
    right = value[1].get<std::string>();
  }
  if (left.empty() || right.empty()) {
    return Wrong(where, Short(value) + " is neither \"left right\" nor [\"left\", \"right\"]");
  }
  const std::optional<std::string> left_bytes = DecodeByteLevel(left);
  const std::optional<std::string> right_bytes = DecodeByteLevel(right);
  if (!left_bytes || !right_bytes) {
    return Wrong(where, Short(value) + " is not written in the byte-level alphabet");
  }
  return std::pair(*left_bytes, *right_bytes);
}

Status ParseModel(const Json& model, TokenizerParts* parts, VocabByContent* by_content) {
  ROLLCALL_RETURN_IF_ERROR(
      CheckKeys(model, "model",
                {"type", "vocab", "merges", "dropout", "unk_token", "continuing_subword_prefix",
                 "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges"}));
  // Old GPT-2 files have no type.
  if (model.contains("type") && model["type"] != "BPE") {
    return NotSupported("model.type", model["type"], "\"BPE\"");
  }
  if (!IsNull(model, "dropout") && model["dropout"] != 0) {
    return NotSupported("model.dropout", model["dropout"], "null");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!IsNull(model, key) && model[key] != "") {
      return NotSupported(std::string("model.") + key, model[key], "null");
    }
  }
  // unk_token and fuse_unk have no effect: every byte has a token.
  ROLLCALL_ASSIGN_OR_RETURN(const bool byte_fallback,
                            GetBool(model, "model", "byte_fallback", false));
  if (byte_fallback) return NotSupported("model.byte_fallback", model["byte_fallback"], "false");
  ROLLCALL_ASSIGN_OR_RETURN(parts->bpe.ignore_merges,
                            GetBool(model, "model", "ignore_merges", false));

  ROLLCALL_ASSIGN_OR_RETURN(*by_content, ParseVocab(model));
  const auto merges = model.find("merges");
  if (merges == model.end() || !merges->is_array()) return Wrong("model.merges", "is not a list");
  if (merges->size() > kMaxMerges) {
    return Wrong("model.merges", std::to_string(merges->size()) + " merges, the limit is " +
                                     std::to_string(kMaxMerges));
  }
  parts->bpe.merges.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    ROLLCALL_ASSIGN_OR_RETURN(auto merge,
                              ParseMerge((*merges)[i], "model.merges[" + std::to_string(i) + "]"));
    parts->bpe.merges.push_back(std::move(merge));
  }
  return OkStatus();
}

StatusOr<AddedToken> ParseAddedToken(const Json& value, const std::string& where) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(
      value, where, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
  AddedToken token;
  const auto content = value.find("content");
  if (content == value.end() || !content->is_string() || content->get<std::string>().empty() ||
      content->get<std::string>().size() > kMaxTokenBytes) {
    return Wrong(where,
                 "content is not a text of 1 to " + std::to_string(kMaxTokenBytes) + " bytes");
  }
  token.content = content->get<std::string>();
  ROLLCALL_ASSIGN_OR_RETURN(token.id, GetId(value.value("id", Json()), where));
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
  if (!list.is_array() || list.size() > kMaxTokens) return Wrong("added_tokens", "is not a list");
  std::unordered_set<std::string> contents;
  const auto vocab_size = static_cast<int64_t>(by_content.size());
  int64_t largest = -1;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = "added_tokens[" + std::to_string(i) + "]";
    ROLLCALL_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(list[i], where));
    if (!contents.insert(token.content).second) {
      return Wrong(where, "'" + token.content + "' is given twice");
    }
    const auto in_vocab = by_content.find(token.content);
    const int64_t expected = in_vocab != by_content.end() ? in_vocab->second
                             : largest >= vocab_size      ? largest + 1
                                                          : vocab_size;
    if (token.id != expected) {
      return Wrong(where, "'" + token.content + "' has id " + std::to_string(token.id) +
                              ", expected " + std::to_string(expected));
    }
    largest = std::max<int64_t>(largest, token.id);
    tokens->push_back(std::move(token));
  }
  return OkStatus();
}

}  // namespace

StatusOr<TokenizerParts> ParseTokenizerJson(std::string_view json) {
  bool too_deep = false;
  Json root;
  try {
    root = Json::parse(json, [&](int depth, Json::parse_event_t, const Json&) {
      too_deep = too_deep || depth > kMaxDepth;
      return !too_deep;
    });
  } catch (const Json::exception& e) {
    return InvalidArgument(std::string("not JSON: ") + e.what());
  }
  if (too_deep) return InvalidArgument("nested deeper than " + std::to_string(kMaxDepth));
  // Truncation, padding and the post-processor change what an encode call returns, not the
  // tokenization; Encode() does none of them.
  ROLLCALL_RETURN_IF_ERROR(
      CheckKeys(root, "tokenizer",
                {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                 "post_processor", "decoder", "model"}));
  if (!IsNull(root, "normalizer")) {
    return NotSupported("normalizer", root["normalizer"], "null");
  }
  const Json decoder = root.value("decoder", Json());
  if (TypeOf(decoder) != "ByteLevel") return NotSupported("decoder", decoder, "ByteLevel");

  TokenizerParts parts;
  VocabByContent by_content;
  ROLLCALL_RETURN_IF_ERROR(
      ParsePreTokenizer(root.value("pre_tokenizer", Json()), &parts.pre_tokenizer));
  const auto model = root.find("model");
  if (model == root.end()) return Wrong("model", "is missing");
  ROLLCALL_RETURN_IF_ERROR(ParseModel(*model, &parts, &by_content));
  ROLLCALL_RETURN_IF_ERROR(
      ParseAddedTokens(root.value("added_tokens", Json()), by_content, &parts.added_tokens));

  std::unordered_map<int32_t, std::string> ids;
  for (const AddedToken& token : parts.added_tokens) {
    if (token.special) parts.bpe.forbidden_ids.push_back(token.id);
    ids.emplace(token.id, token.content);
  }
  for (const auto& [content, id] : by_content) {
    const auto added = ids.find(id);
    if (added != ids.end() && added->second != content) {
      return Wrong("added_tokens", "'" + added->second + "' and '" + content +
                                       "' of model.vocab share id " + std::to_string(id));
    }
    const std::optional<std::string> bytes = DecodeByteLevel(content);
    if (bytes) {
      parts.bpe.vocab.emplace(*bytes, id);
    } else if (added == ids.end()) {
      return Wrong("model.vocab", "token '" + content +
                                      "' is neither written in the byte-level alphabet nor one of "
                                      "added_tokens");
    }
  }
  return parts;
}

}  // namespace rollcall
