#include "services/common/text/model_json.h"

#include <charconv>
#include <cmath>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "services/common/text/unigram.h"
#include "services/common/text/utf8.h"
#include "services/common/text/word_piece.h"

namespace rollcall {
namespace {

using Json = TokenizerJson;

constexpr size_t kMaxTokens = size_t{1} << 22;
constexpr size_t kMaxMerges = size_t{1} << 22;
constexpr size_t kMaxVocabBytes = 64 << 20;
constexpr int64_t kMaxWordChars = int64_t{1} << 20;

// The score as the reference reads it: the digits as an integer, divided by a power of ten, which
// may be one unit off in the last place. Ties between two ways to cut a word hang on it.
double ReferenceScore(double score) {
  char text[64];
  const auto written =
      std::to_chars(text, text + sizeof(text), std::abs(score), std::chars_format::scientific);
  const std::string_view digits(text, static_cast<size_t>(written.ptr - text));
  const size_t e = digits.find('e');
  uint64_t significand = 0;
  int exponent = 0;
  for (const char c : digits.substr(0, e)) {
    if (c == '.') continue;
    significand = significand * 10 + static_cast<uint64_t>(c - '0');  // at most 17 digits
    --exponent;
  }
  const std::string_view power = digits.substr(e + 1);
  int ten = 0;
  std::from_chars(power.data() + 1, power.data() + power.size(), ten);
  exponent += 1 + (power.front() == '-' ? -ten : ten);
  double value = static_cast<double>(significand);
  const std::string scale = "1e" + std::to_string(std::abs(exponent));
  double factor = 0;
  std::from_chars(scale.data(), scale.data() + scale.size(), factor);
  if (factor == 0) return score;  // past the range of one step
  value = exponent >= 0 ? value * factor : value / factor;
  return std::signbit(score) ? -value : value;
}

// Old files do not say what their model is.
std::string ModelType(const Json& model) {
  if (!TypeOf(model).empty() || !model.is_object() || model.contains("type")) return TypeOf(model);
  if (model.contains("merges")) return "BPE";
  const auto vocab = model.find("vocab");
  if (vocab != model.end() && vocab->is_array()) return "Unigram";
  return model.contains("continuing_subword_prefix") ? "WordPiece" : "WordLevel";
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
    return WrongField(where,
                      ShortJson(value) + " is neither \"left right\" nor [\"left\", \"right\"]");
  }
  return std::pair(std::move(left), std::move(right));
}

// The id of the token that `key` names; -1 when nothing is named.
StatusOr<int32_t> FindUnk(const Json& model, const std::vector<VocabToken>& vocab) {
  ROLLCALL_ASSIGN_OR_RETURN(const auto content, GetString(model, "model", "unk_token"));
  if (!content) return -1;
  for (const VocabToken& token : vocab) {
    if (token.content == *content) return token.id;
  }
  return -1;
}

Status ParseBpe(const Json& model, const std::vector<int32_t>& forbidden, TokenizerParts* parts) {
  ROLLCALL_RETURN_IF_ERROR(
      CheckKeys(model, "model",
                {"type", "vocab", "merges", "dropout", "unk_token", "continuing_subword_prefix",
                 "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges"}));
  const Json dropout = model.value("dropout", Json());
  if (!dropout.is_null() && dropout != 0) return NotSupported("model.dropout", dropout, "null");
  BpeOptions options;
  ROLLCALL_ASSIGN_OR_RETURN(options.ignore_merges, GetBool(model, "model", "ignore_merges", false));
  ROLLCALL_ASSIGN_OR_RETURN(options.byte_fallback, GetBool(model, "model", "byte_fallback", false));
  ROLLCALL_ASSIGN_OR_RETURN(options.fuse_unk, GetBool(model, "model", "fuse_unk", false));
  ROLLCALL_ASSIGN_OR_RETURN(const auto prefix,
                            GetString(model, "model", "continuing_subword_prefix"));
  ROLLCALL_ASSIGN_OR_RETURN(const auto suffix, GetString(model, "model", "end_of_word_suffix"));
  options.continuing_subword_prefix = prefix.value_or("");
  options.end_of_word_suffix = suffix.value_or("");
  ROLLCALL_ASSIGN_OR_RETURN(options.unk_id, FindUnk(model, parts->vocab));
  if (options.unk_id < 0 && model.contains("unk_token") && !model["unk_token"].is_null()) {
    return WrongField("model.unk_token", ShortJson(model["unk_token"]) + " is not in model.vocab");
  }

  const auto merges = model.find("merges");
  if (merges == model.end() || !merges->is_array()) {
    return WrongField("model.merges", "is not a list");
  }
  if (merges->size() > kMaxMerges) {
    return WrongField("model.merges", std::to_string(merges->size()) + " merges, the limit is " +
                                          std::to_string(kMaxMerges));
  }
  options.merges.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    ROLLCALL_ASSIGN_OR_RETURN(auto merge,
                              ParseMerge((*merges)[i], "model.merges[" + std::to_string(i) + "]"));
    options.merges.push_back(std::move(merge));
  }
  for (const VocabToken& token : parts->vocab) options.vocab.emplace(token.content, token.id);
  options.forbidden_ids = forbidden;
  // Writing words in the byte-level alphabet can be left out when bytes are what is looked up.
  if (!parts->pre_tokenizer.empty() && !options.byte_fallback &&
      options.continuing_subword_prefix.empty() && options.end_of_word_suffix.empty() &&
      std::holds_alternative<ByteAlphabetWordsStep>(parts->pre_tokenizer.back())) {
    parts->pre_tokenizer.pop_back();
    options.symbols = BpeOptions::Symbols::kBytes;
  }
  ROLLCALL_ASSIGN_OR_RETURN(Bpe bpe, Bpe::Create(std::move(options)));
  auto owned = std::make_unique<Bpe>(std::move(bpe));
  parts->bpe = owned.get();
  parts->model = std::move(owned);
  return OkStatus();
}

Status ParseUnigram(const Json& model, const std::vector<int32_t>& forbidden,
                    TokenizerParts* parts) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(model, "model", {"type", "vocab", "unk_id", "byte_fallback"}));
  UnigramOptions options;
  ROLLCALL_ASSIGN_OR_RETURN(options.byte_fallback, GetBool(model, "model", "byte_fallback", false));
  if (model.contains("unk_id") && !model["unk_id"].is_null()) {
    ROLLCALL_ASSIGN_OR_RETURN(
        const int64_t unk_id,
        GetCount(model, "model", "unk_id", static_cast<int64_t>(parts->vocab.size())));
    options.unk_id = static_cast<int32_t>(unk_id);
  }
  const Json& vocab = model["vocab"];
  options.vocab.reserve(vocab.size());
  for (size_t i = 0; i < vocab.size(); ++i) {
    const double score = vocab[i][1].get<double>();
    if (!std::isfinite(score)) {
      return WrongField("model.vocab[" + std::to_string(i) + "]", "the score is not finite");
    }
    options.vocab.emplace_back(parts->vocab[i].content, ReferenceScore(score));
  }
  options.forbidden_ids = forbidden;
  parts->model = std::make_unique<Unigram>(options);
  return OkStatus();
}

// The vocabulary without what text must not become.
std::vector<std::pair<std::string, int32_t>> Allowed(const std::vector<VocabToken>& vocab,
                                                     const std::vector<int32_t>& forbidden_ids) {
  const std::unordered_set<int32_t> forbidden(forbidden_ids.begin(), forbidden_ids.end());
  std::vector<std::pair<std::string, int32_t>> allowed;
  for (const VocabToken& token : vocab) {
    if (!forbidden.contains(token.id)) allowed.emplace_back(token.content, token.id);
  }
  return allowed;
}

Status ParseWordPiece(const Json& model, const std::vector<int32_t>& forbidden,
                      TokenizerParts* parts) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(
      model, "model",
      {"type", "vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word"}));
  WordPieceOptions options;
  ROLLCALL_ASSIGN_OR_RETURN(options.unk_id, FindUnk(model, parts->vocab));
  ROLLCALL_ASSIGN_OR_RETURN(const auto prefix,
                            GetString(model, "model", "continuing_subword_prefix"));
  options.continuing_subword_prefix = prefix.value_or("##");
  if (model.contains("max_input_chars_per_word")) {
    ROLLCALL_ASSIGN_OR_RETURN(const int64_t max_chars,
                              GetCount(model, "model", "max_input_chars_per_word", kMaxWordChars));
    options.max_input_chars_per_word = static_cast<size_t>(max_chars);
  }
  options.vocab = Allowed(parts->vocab, forbidden);
  parts->model = std::make_unique<WordPiece>(options);
  return OkStatus();
}

Status ParseWordLevel(const Json& model, const std::vector<int32_t>& forbidden,
                      TokenizerParts* parts) {
  ROLLCALL_RETURN_IF_ERROR(CheckKeys(model, "model", {"type", "vocab", "unk_token"}));
  ROLLCALL_ASSIGN_OR_RETURN(const int32_t unk_id, FindUnk(model, parts->vocab));
  parts->model = std::make_unique<WordLevel>(Allowed(parts->vocab, forbidden), unk_id);
  return OkStatus();
}

// [["<unk>", 0.0], ["a", -1.5], ...]
Status ParseScoredVocab(const Json& vocab, std::vector<VocabToken>* tokens) {
  for (size_t i = 0; i < vocab.size(); ++i) {
    const Json& entry = vocab[i];
    const std::string where = "model.vocab[" + std::to_string(i) + "]";
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      return WrongField(where, ShortJson(entry) + " is not [token, score]");
    }
    tokens->push_back({entry[0].get<std::string>(), static_cast<int32_t>(i)});
  }
  return OkStatus();
}

}  // namespace

Status ParseVocab(const Json& model, TokenizerParts* parts) {
  const std::string type = ModelType(model);
  constexpr std::string_view kSupported = "BPE, Unigram, WordLevel, WordPiece";
  if (type != "BPE" && type != "Unigram" && type != "WordLevel" && type != "WordPiece") {
    if (!model.is_object()) return WrongField("model", "is not an object");
    return NotSupported("model.type", model.value("type", Json()), kSupported);
  }
  const auto vocab = model.find("vocab");
  const bool is_list = type == "Unigram";
  if (vocab == model.end() || vocab->empty() ||
      !(is_list ? vocab->is_array() : vocab->is_object())) {
    return WrongField("model.vocab",
                      is_list ? "is not a list of [token, score]" : "is not an object with tokens");
  }
  if (vocab->size() > kMaxTokens) {
    return WrongField("model.vocab", std::to_string(vocab->size()) + " tokens, the limit is " +
                                         std::to_string(kMaxTokens));
  }
  parts->vocab.reserve(vocab->size());
  if (is_list) {
    ROLLCALL_RETURN_IF_ERROR(ParseScoredVocab(*vocab, &parts->vocab));
  } else {
    std::unordered_set<int32_t> ids;
    for (const auto& [content, value] : vocab->items()) {
      ROLLCALL_ASSIGN_OR_RETURN(const int32_t id, GetTokenId(value, "model.vocab"));
      if (!ids.insert(id).second) {
        return WrongField("model.vocab", "id " + std::to_string(id) + " is given twice");
      }
      parts->vocab.push_back({content, id});
    }
  }
  size_t num_bytes = 0;
  for (const VocabToken& token : parts->vocab) {
    num_bytes += token.content.size();
    if (token.content.size() > kMaxTokenBytes || num_bytes > kMaxVocabBytes) {
      return WrongField("model.vocab", "a token has more than " + std::to_string(kMaxTokenBytes) +
                                           " bytes, or all of them more than " +
                                           std::to_string(kMaxVocabBytes));
    }
  }
  return OkStatus();
}

Status ParseModel(const Json& model, const std::vector<int32_t>& forbidden, TokenizerParts* parts) {
  const std::string type = ModelType(model);
  if (type == "BPE") return ParseBpe(model, forbidden, parts);
  if (type == "Unigram") return ParseUnigram(model, forbidden, parts);
  if (type == "WordPiece") return ParseWordPiece(model, forbidden, parts);
  return ParseWordLevel(model, forbidden, parts);
}

}  // namespace rollcall
