#include "services/model/weights/init_model.h"

#include <filesystem>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "services/cli/proto_json.h"
#include "services/cli/verbs.h"
#include "services/common/storage/files.h"
#include "services/common/text/tokenizer.h"

namespace rollcall {
namespace {

struct InitModelFlags {
  std::string directory;
  std::string architecture = "llama";
  ModelConfig config;
  bool has_kv_heads = false;  // given, not the default
  int64_t sliding_window = 0;
  uint64_t seed = 0;
  bool force = false;
};

constexpr char kEndOfText[] = "<|endoftext|>";

Status InitModel(const Context& context, InitModelFlags flags) {
  std::error_code error;
  if (!flags.force && std::filesystem::exists(flags.directory, error) &&
      !std::filesystem::is_empty(flags.directory, error)) {
    return AlreadyExists(flags.directory +
                         " exists and is not empty\nname a new directory, or replace its model "
                         "with --force");
  }
  ModelConfig& config = flags.config;
  if (config.hidden_size % config.num_heads != 0) {
    return InvalidArgument(
        fmt::format("--hidden-size {} cannot be shared by --heads {}\ngive a "
                    "multiple of the number of heads",
                    config.hidden_size, config.num_heads));
  }
  config.head_dim = config.hidden_size / config.num_heads;
  ROLLCALL_RETURN_IF_ERROR(SetModelType(flags.architecture, &config));
  if (!HasKvHeads(config)) {
    if (flags.has_kv_heads && config.num_kv_heads != config.num_heads) {
      return InvalidArgument(
          fmt::format("a '{}' model has as many key-value heads as query heads\n"
                      "leave --kv-heads out",
                      flags.architecture));
    }
    config.num_kv_heads = config.num_heads;
  }
  if (flags.sliding_window > 0) {
    ROLLCALL_RETURN_IF_ERROR(SetSlidingWindow(flags.sliding_window, &config));
  }
  const std::string tokenizer_json = ByteTokenizerJson();
  ROLLCALL_ASSIGN_OR_RETURN(const auto tokenizer, ParseTokenizer(tokenizer_json, "byte tokenizer"));
  const int32_t end = tokenizer->TokenId(kEndOfText);
  config.eos_token_ids = {end};
  config.bos_token_id = end;
  config.pad_token_id = end;
  if (config.vocab_size == 0) config.vocab_size = tokenizer->vocab_size();
  ROLLCALL_RETURN_IF_ERROR(CheckTokenizerFits(*tokenizer, config.vocab_size));

  ROLLCALL_RETURN_IF_ERROR(
      InitModelDirectory({.directory = flags.directory, .config = config, .seed = flags.seed}));
  ROLLCALL_RETURN_IF_ERROR(WriteFileAtomic(flags.directory + "/tokenizer.json", tokenizer_json));
  const nlohmann::ordered_json tokenizer_config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                                   {"eos_token", kEndOfText},
                                                   {"bos_token", kEndOfText},
                                                   {"pad_token", kEndOfText},
                                                   {"clean_up_tokenization_spaces", false},
                                                   {"model_max_length", config.max_positions}};
  ROLLCALL_RETURN_IF_ERROR(
      WriteFileAtomic(flags.directory + "/tokenizer_config.json", tokenizer_config.dump(2) + "\n"));
  const int64_t parameters = NumParameters(config);
  if (context.flags.json) {
    PrintLine(JsonText({{"path", flags.directory}, {"num_parameters", parameters}}));
  } else {
    PrintLine(fmt::format("made {}: {} parameters, byte tokenizer of {} tokens", flags.directory,
                          HumanCount(static_cast<double>(parameters)), tokenizer->vocab_size()));
  }
  return OkStatus();
}

}  // namespace

void AddInitModel(CLI::App& app, Context& context) {
  auto flags = std::make_shared<InitModelFlags>();
  ModelConfig& config = flags->config;
  config.hidden_size = 128;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.intermediate_size = 384;
  config.max_positions = 256;
  CLI::App* verb =
      app.add_subcommand("init-model", "Make a small untrained model with a byte tokenizer");
  verb->add_option("DIR", flags->directory, "Directory to make")->required();
  const std::vector<std::string> types = KnownModelTypes();
  verb->add_option("--architecture", flags->architecture, "Model type, as config.json names it")
      ->check(CLI::IsMember(types))
      ->capture_default_str();
  const auto add_size = [verb](const char* name, int64_t* value, const char* help) {
    return verb->add_option(name, *value, help)
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
        ->capture_default_str();
  };
  add_size("--hidden-size", &config.hidden_size, "Width of the residual stream");
  add_size("--layers", &config.num_layers, "Decoder layers");
  add_size("--heads", &config.num_heads, "Query heads");
  const CLI::Option* kv_heads = add_size("--kv-heads", &config.num_kv_heads,
                                         "Key-value heads; GPT-2 and GPT-NeoX have as many "
                                         "as query heads");
  add_size("--intermediate-size", &config.intermediate_size, "Width of the feed-forward block");
  add_size("--max-positions", &config.max_positions, "Longest sequence, in tokens");
  verb->add_option("--vocab-size", config.vocab_size,
                   "Rows of the embedding [as many as the tokenizer has tokens]")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  verb->add_option("--sliding-window", flags->sliding_window,
                   "Keys that a query sees in the layers that slide [no layer slides]")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  verb->add_flag("--tie", config.tie_word_embeddings, "Share the embedding with the output");
  verb->add_option("--seed", flags->seed, "Seed of the initial weights")->capture_default_str();
  verb->add_flag("--force", flags->force, "Replace a model that is there");
  verb->callback([&context, flags, kv_heads] {
    flags->has_kv_heads = kv_heads->count() > 0;
    context.action = [&context, flags] { return InitModel(context, *flags); };
  });
}

}  // namespace rollcall
