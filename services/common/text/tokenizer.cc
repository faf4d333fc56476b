#include "services/common/text/tokenizer.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "services/common/text/byte_level.h"
#include "services/common/text/pipeline_tokenizer.h"
#include "services/common/text/tokenizer_json.h"

namespace rollcall {

StatusOr<std::shared_ptr<const Tokenizer>> ParseTokenizer(std::string_view json,
                                                          std::string_view origin) {
  StatusOr<TokenizerParts> parts = ParseTokenizerJson(json);
  if (!parts.ok()) return Annotate(parts.status(), origin);
  StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = MakePipelineTokenizer(*std::move(parts));
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), origin);
  return tokenizer;
}

std::string ByteTokenizerJson() {
  using Json = nlohmann::ordered_json;
  constexpr int kNumBytes = 256;
  Json vocab = Json::object();
  for (int byte = 0; byte < kNumBytes; ++byte) {
    const char raw = static_cast<char>(byte);
    vocab[EncodeByteLevel(std::string_view(&raw, 1))] = byte;
  }
  const Json end_of_text = {
      {"id", kNumBytes}, {"content", "<|endoftext|>"}, {"single_word", false}, {"lstrip", false},
      {"rstrip", false}, {"normalized", false},        {"special", true}};
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", false}};
  const Json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", Json::array({end_of_text})},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", byte_level},
                          {"post_processor", nullptr},
                          {"decoder", byte_level},
                          {"model",
                           {{"type", "BPE"},
                            {"dropout", nullptr},
                            {"unk_token", nullptr},
                            {"continuing_subword_prefix", nullptr},
                            {"end_of_word_suffix", nullptr},
                            {"fuse_unk", false},
                            {"byte_fallback", false},
                            {"ignore_merges", false},
                            {"vocab", vocab},
                            {"merges", Json::array()}}}};
  return tokenizer.dump(2) + "\n";
}

Status CheckTokenizerFits(const Tokenizer& tokenizer, int64_t model_vocab_size) {
  if (tokenizer.vocab_size() <= model_vocab_size) return OkStatus();
  return InvalidArgument("the tokenizer has ids up to " +
                         std::to_string(tokenizer.vocab_size() - 1) +
                         ", the model has embeddings for " + std::to_string(model_vocab_size) +
                         " ids only; use the tokenizer.json that belongs to the model");
}

}  // namespace rollcall
