#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "services/cli/copy_directory.h"
#include "services/cli/proto_json.h"
#include "services/cli/verbs.h"
#include "services/model/adapter/lora_adapter.h"
#include "services/model/weights/model_files.h"
#include "services/model/weights/model_writer.h"

namespace rollcall {
namespace {

struct ConvertFlags {
  std::string source;
  std::string destination;
  std::string adapter;
  WriteModelOptions write;
};

// Everything but the weights and what the writer makes goes along: tokenizer, chat templates.
bool IsCompanion(const std::string& name) {
  return !name.ends_with(".safetensors") && !name.ends_with(".safetensors.index.json") &&
         !name.ends_with(".bin") && !name.ends_with(".bin.index.json") && name != "config.json";
}

Status Convert(const Context& context, const ConvertFlags& flags) {
  ROLLCALL_ASSIGN_OR_RETURN(const ModelFiles files, ModelFiles::Open(flags.source));
  const ModelConfig& config = files.config();
  const Head head = HeadOfArchitecture(config);
  ROLLCALL_RETURN_IF_ERROR(CheckParameters(files, head).status());
  LoraAdapter adapter;
  if (!flags.adapter.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(adapter, ReadAdapter(flags.adapter, config, head));
  }
  std::vector<float> arena(
      static_cast<size_t>(ArenaValues(ArenaLayout(ListParameters(config, head)))));
  ROLLCALL_RETURN_IF_ERROR(ReadParameters(files, head, arena));
  MergeAdapter(adapter, config, head, arena);
  ROLLCALL_RETURN_IF_ERROR(CopyDirectoryAtomic(
      flags.source, flags.destination,
      {.keeps = IsCompanion, .add = [&](const std::string& directory) {
         return WriteModelDirectory(directory, config, head, arena, flags.write);
       }}));
  ROLLCALL_ASSIGN_OR_RETURN(const ModelDirectoryInfo made, CheckModelDirectory(flags.destination));
  if (context.flags.json) {
    PrintLine(JsonText({{"source", flags.source},
                        {"path", flags.destination},
                        {"dtype", std::string(DTypeName(made.dtype))},
                        {"num_files", made.num_files},
                        {"size_bytes", made.size_bytes},
                        {"adapted_modules", adapter.modules.size()}}));
    return OkStatus();
  }
  if (!adapter.modules.empty()) {
    PrintLine(fmt::format("merged {} of {} modules", flags.adapter, adapter.modules.size()));
  }
  PrintLine(fmt::format("wrote {}: {} {} in {} file{}", flags.destination,
                        HumanBytes(static_cast<double>(made.size_bytes)),
                        std::string(DTypeName(made.dtype)), made.num_files,
                        made.num_files == 1 ? "" : "s"));
  return OkStatus();
}

}  // namespace

void AddConvert(CLI::App& app, Context& context) {
  auto flags = std::make_shared<ConvertFlags>();
  CLI::App* verb = app.add_subcommand(
      "convert", "Write a model directory anew: merge an adapter, change dtype or file size");
  verb->add_option("MODEL", flags->source, "Model directory")->required();
  verb->add_option("DEST", flags->destination, "Directory to make; must not exist")->required();
  verb->add_option("--adapter", flags->adapter, "PEFT LoRA adapter directory to merge");
  verb->add_option("--dtype", flags->write.dtype, "float32, bfloat16 or float16 [float32]")
      ->transform(CLI::CheckedTransformer(std::map<std::string, DType>{
          {"float32", DType::kF32}, {"bfloat16", DType::kBF16}, {"float16", DType::kF16}}));
  verb->add_option("--max-shard-size", flags->write.max_shard_bytes,
                   "Largest weights file, e.g. 5GB; several get an index [one file]")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true));
  verb->callback([&context, flags] {
    context.action = [&context, flags] { return Convert(context, *flags); };
  });
}

}  // namespace rollcall
