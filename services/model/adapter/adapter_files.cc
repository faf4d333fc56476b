// adapter_config.json and adapter_model.safetensors, as PEFT writes and reads them.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/common/storage/files.h"
#include "services/model/adapter/lora_adapter.h"
#include "services/model/config/json_reader.h"
#include "services/model/weights/safetensors.h"

namespace rollcall {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr std::string_view kConfigFile = "/adapter_config.json";
constexpr std::string_view kWeightsFile = "/adapter_model.safetensors";
// PEFT wraps the model once and calls what it wraps "model".
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kSuffixA = ".lora_A.weight";
constexpr std::string_view kSuffixB = ".lora_B.weight";
constexpr std::string_view kBaseLayer = ".base_layer";
constexpr std::string_view kWeight = ".weight";

struct AdapterConfig {
  std::string base_model;
  double alpha = 0;
  bool is_rank_stabilised = false;
  std::map<std::string, double> alphas;  // of some modules, by name or by its end
};

// PEFT's patterns are regular expressions; in practice they are names, or ends of names.
bool IsNamePattern(std::string_view pattern) {
  return !pattern.empty() && std::all_of(pattern.begin(), pattern.end(), [](char c) {
    return c == '_' || c == '.' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z');
  });
}

bool Matches(std::string_view pattern, std::string_view module) {
  return module == pattern ||
         (module.ends_with(pattern) && module[module.size() - pattern.size() - 1] == '.');
}

void ReadAlphas(const JsonReader& reader, AdapterConfig& config) {
  const Json* patterns = reader.Find("alpha_pattern");
  if (patterns == nullptr) return;
  if (!patterns->is_object()) {
    reader.Fail("'alpha_pattern' is " + JsonReader::Dump(*patterns) + "; expected an object");
    return;
  }
  for (const auto& [pattern, alpha] : patterns->items()) {
    if (!IsNamePattern(pattern)) {
      reader.Fail("'alpha_pattern' has the regular expression '" + pattern.substr(0, 80) +
                  "'; only names of modules, or ends of names, are supported");
      return;
    }
    if (!alpha.is_number() || !(alpha.get<double>() > 0)) {
      reader.Fail("'alpha_pattern': '" + pattern + "' is " + JsonReader::Dump(alpha) +
                  "; expected a number above 0");
      return;
    }
    config.alphas[pattern] = alpha.get<double>();
  }
}

StatusOr<AdapterConfig> ReadConfig(const std::string& path) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  return GuardExceptions(path, [&]() -> StatusOr<AdapterConfig> {
    const Json json = Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return InvalidArgument(path + ": not a JSON object");
    Status status;
    JsonReader reader(json, path, &status);
    if (reader.TextOr("peft_type", "") != "LORA") {
      const Json* type = reader.Find("peft_type");
      reader.Fail("'peft_type' is " + (type == nullptr ? "missing" : JsonReader::Dump(*type)) +
                  "; only \"LORA\" is supported");
    }
    reader.MustBe("bias", "none");
    reader.MustBeOff("use_dora", "weight-decomposed adapters (DoRA)");
    reader.MustBeOff("use_qalora", "quantised adapters (QA-LoRA)");
    reader.MustBeOff("lora_bias", "biases of adapters");
    reader.MustBeOff("trainable_token_indices", "trained embeddings of single tokens");
    reader.MustBeOff("layer_replication", "replicated layers");
    reader.MustBeOff("target_parameters", "adapters of bare parameters");
    AdapterConfig config;
    config.base_model = reader.TextOr("base_model_name_or_path", "");
    config.alpha = reader.Double("lora_alpha");
    config.is_rank_stabilised = reader.BoolOr("use_rslora", false);
    ReadAlphas(reader, config);
    ROLLCALL_RETURN_IF_ERROR(status);
    return config;
  });
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

Status Wrong(const SafetensorsFile& file, const TensorLayout& tensor, const std::string& what) {
  return InvalidArgument(file.path() + ": tensor '" + tensor.name + "' " + what);
}

// All values of a tensor, as float32.
StatusOr<std::vector<float>> ReadValues(const SafetensorsFile& file, const TensorLayout& tensor) {
  if (tensor.dtype != DType::kF32 && tensor.dtype != DType::kBF16 && tensor.dtype != DType::kF16) {
    return Wrong(file, tensor,
                 "is " + std::string(DTypeName(tensor.dtype)) + "; expected F32, BF16 or F16");
  }
  const std::span<const std::byte> data = file.Data(tensor);
  std::vector<float> values(data.size() / DTypeSize(tensor.dtype));
  ConvertToFloat(tensor.dtype, data, values);
  return values;
}

// One half of an adapter: A has one row, B one column for each of the rank.
StatusOr<std::vector<float>> ReadHalf(const SafetensorsFile& file, const TensorLayout& tensor,
                                      int64_t width, bool is_a, int64_t* rank) {
  if (tensor.shape.size() != 2 || tensor.shape[is_a ? 1 : 0] != width) {
    const std::string wanted =
        is_a ? "[rank, " + std::to_string(width) + "]" : "[" + std::to_string(width) + ", rank]";
    return Wrong(file, tensor,
                 "has shape " + ShapeText(tensor.shape) + "; the base model asks for " + wanted);
  }
  *rank = tensor.shape[is_a ? 0 : 1];
  if (*rank < 1) return Wrong(file, tensor, "has rank 0");
  return ReadValues(file, tensor);
}

// The module whose adapter the tensor is half of, or nothing.
std::optional<std::string_view> ModuleOf(std::string_view tensor) {
  if (!tensor.starts_with(kPrefix)) return std::nullopt;
  tensor.remove_prefix(kPrefix.size());
  for (const std::string_view suffix : {kSuffixA, kSuffixB}) {
    if (tensor.ends_with(suffix)) return tensor.substr(0, tensor.size() - suffix.size());
  }
  return std::nullopt;
}

StatusOr<LoraModule> ReadModule(const SafetensorsFile& file, const AdapterConfig& config,
                                const LinearModule& linear) {
  LoraModule module{.name = linear.name,
                    .rank = 0,
                    .alpha = config.alpha,
                    .num_inputs = linear.num_inputs,
                    .num_outputs = linear.num_outputs,
                    .a = {},
                    .b = {}};
  const std::string stem = std::string(kPrefix) + linear.name;
  const TensorLayout* a = file.Find(stem + std::string(kSuffixA));
  const TensorLayout* b = file.Find(stem + std::string(kSuffixB));
  if (a == nullptr || b == nullptr) {
    return InvalidArgument(file.path() + ": module '" + linear.name + "' has no " +
                           std::string(a == nullptr ? kSuffixA : kSuffixB).substr(1));
  }
  int64_t rank_of_b = 0;
  ROLLCALL_ASSIGN_OR_RETURN(module.a, ReadHalf(file, *a, linear.num_inputs, true, &module.rank));
  ROLLCALL_ASSIGN_OR_RETURN(module.b, ReadHalf(file, *b, linear.num_outputs, false, &rank_of_b));
  if (rank_of_b != module.rank) {
    return InvalidArgument(file.path() + ": module '" + linear.name + "' has rank " +
                           std::to_string(module.rank) + " in lora_A and " +
                           std::to_string(rank_of_b) + " in lora_B");
  }
  for (const auto& [pattern, alpha] : config.alphas) {
    if (Matches(pattern, linear.name)) {
      module.alpha = alpha;
      break;
    }
  }
  return module;
}

// Shapes of the base model's tensors on disk, by name.
using TensorShapes = std::map<std::string, std::vector<int64_t>>;

TensorShapes ShapesOf(const ModelConfig& base, Head head) {
  TensorShapes shapes;
  for (DiskTensor& tensor : ListDiskTensors(base, head, ListParameters(base, head))) {
    shapes[tensor.name] = std::move(tensor.shape);
  }
  return shapes;
}

// The tensor of the base model that one of the file stands for, under the base's name.
std::string BaseName(std::string_view tensor) {
  if (!tensor.starts_with(kPrefix)) return "";
  std::string name(tensor.substr(kPrefix.size()));
  const size_t inner = name.rfind(kBaseLayer);
  if (inner != std::string::npos) name.erase(inner, kBaseLayer.size());
  return name;
}

StatusOr<WholeTensor> ReadWhole(const SafetensorsFile& file, const TensorLayout& tensor,
                                const TensorShapes& shapes) {
  const auto base = shapes.find(BaseName(tensor.name));
  if (base == shapes.end()) {
    return Wrong(file, tensor,
                 "is neither lora_A or lora_B of a linear module nor a tensor of the base model");
  }
  if (tensor.shape != base->second) {
    return Wrong(
        file, tensor,
        "has shape " + ShapeText(tensor.shape) + "; the base model has " + ShapeText(base->second));
  }
  WholeTensor whole{.name = base->first, .values = {}};
  ROLLCALL_ASSIGN_OR_RETURN(whole.values, ReadValues(file, tensor));
  return whole;
}

// The name of a whole tensor in the file, and the module to save it for (none when an adapter sits
// on it).
std::string WholeName(const LoraAdapter& adapter, const WholeTensor& tensor, std::string* module) {
  *module = tensor.name.substr(0, tensor.name.rfind('.'));
  for (const LoraModule& adapted : adapter.modules) {
    if (adapted.name != *module) continue;
    module->clear();
    return std::string(kPrefix) + adapted.name + std::string(kBaseLayer) + std::string(kWeight);
  }
  return std::string(kPrefix) + tensor.name;
}

// Names for target_modules: the last part where it means the same modules, else the whole name.
std::set<std::string> TargetNames(const std::vector<LinearModule>& linears,
                                  const LoraAdapter& adapter) {
  const auto last_part = [](const std::string& name) { return name.substr(name.rfind('.') + 1); };
  std::map<std::string, int> in_model;
  std::map<std::string, int> in_adapter;
  for (const LinearModule& linear : linears) ++in_model[last_part(linear.name)];
  for (const LoraModule& module : adapter.modules) ++in_adapter[last_part(module.name)];
  std::set<std::string> names;
  for (const LoraModule& module : adapter.modules) {
    const std::string last = last_part(module.name);
    names.insert(in_model[last] == in_adapter[last] ? last : module.name);
  }
  return names;
}

std::string TaskType(Head head) {
  switch (head) {
    case Head::kSequenceScore:
      return "SEQ_CLS";
    case Head::kTokenScore:
      return "TOKEN_CLS";
    default:
      return "CAUSAL_LM";
  }
}

std::string ConfigJson(const std::vector<LinearModule>& linears, Head head,
                       const LoraAdapter& adapter) {
  const bool is_transposed =
      std::any_of(linears.begin(), linears.end(), [](const auto& m) { return m.is_transposed; });
  const LoraModule& first = adapter.modules.front();
  Json ranks = Json::object();
  Json alphas = Json::object();
  for (const LoraModule& module : adapter.modules) {
    if (module.rank != first.rank) ranks[module.name] = module.rank;
    if (module.alpha != first.alpha) alphas[module.name] = module.alpha;
  }
  nlohmann::ordered_json json;
  json["peft_type"] = "LORA";
  json["task_type"] = TaskType(head);
  json["base_model_name_or_path"] = adapter.base_model;
  json["inference_mode"] = true;
  json["r"] = first.rank;
  json["lora_alpha"] = first.alpha;
  json["lora_dropout"] = 0.0;
  json["use_rslora"] = adapter.is_rank_stabilised;
  json["use_dora"] = false;
  json["bias"] = "none";
  json["fan_in_fan_out"] = is_transposed;
  json["init_lora_weights"] = true;
  json["target_modules"] = TargetNames(linears, adapter);
  std::set<std::string> saved;
  for (const WholeTensor& whole : adapter.whole_tensors) {
    std::string module;
    (void)WholeName(adapter, whole, &module);
    if (!module.empty()) saved.insert(module.substr(module.rfind('.') + 1));
  }
  json["modules_to_save"] = saved.empty() ? Json() : Json(saved);
  json["rank_pattern"] = ranks;
  json["alpha_pattern"] = alphas;
  return json.dump(2) + "\n";
}

}  // namespace

StatusOr<LoraAdapter> ReadAdapter(const std::string& directory, const ModelConfig& base,
                                  Head head) {
  ROLLCALL_ASSIGN_OR_RETURN(const AdapterConfig config,
                            ReadConfig(directory + std::string(kConfigFile)));
  ROLLCALL_ASSIGN_OR_RETURN(const SafetensorsFile file,
                            SafetensorsFile::Open(directory + std::string(kWeightsFile)));
  const TensorShapes shapes = ShapesOf(base, head);
  LoraAdapter adapter{.base_model = config.base_model,
                      .is_rank_stabilised = config.is_rank_stabilised,
                      .modules = {},
                      .whole_tensors = {}};
  std::set<std::string_view> adapted;
  for (const TensorLayout& tensor : file.header().tensors) {
    if (const auto module = ModuleOf(tensor.name)) {
      adapted.insert(*module);
      continue;
    }
    ROLLCALL_ASSIGN_OR_RETURN(WholeTensor whole, ReadWhole(file, tensor, shapes));
    adapter.whole_tensors.push_back(std::move(whole));
  }
  for (const LinearModule& linear : ListLinearModules(base, head)) {
    if (adapted.erase(linear.name) == 0) continue;
    ROLLCALL_ASSIGN_OR_RETURN(LoraModule module, ReadModule(file, config, linear));
    adapter.modules.push_back(std::move(module));
  }
  if (!adapted.empty()) {
    return InvalidArgument(file.path() + ": the base model (" + base.architecture +
                           ") has no linear module '" + std::string(*adapted.begin()) + "'");
  }
  if (adapter.modules.empty()) return InvalidArgument(file.path() + ": no adapter in it");
  return adapter;
}

Status WriteAdapter(const std::string& directory, const ModelConfig& base, Head head,
                    const LoraAdapter& adapter) {
  if (adapter.modules.empty()) return InvalidArgument("an adapter of no module is not written");
  std::vector<SafetensorsView> views;
  for (const LoraModule& module : adapter.modules) {
    const std::string stem = std::string(kPrefix) + module.name;
    views.push_back({.name = stem + std::string(kSuffixA),
                     .dtype = DType::kF32,
                     .shape = {module.rank, module.num_inputs},
                     .data = std::as_bytes(std::span(module.a))});
    views.push_back({.name = stem + std::string(kSuffixB),
                     .dtype = DType::kF32,
                     .shape = {module.num_outputs, module.rank},
                     .data = std::as_bytes(std::span(module.b))});
  }
  const TensorShapes shapes = ShapesOf(base, head);
  for (const WholeTensor& whole : adapter.whole_tensors) {
    std::string module;
    views.push_back({.name = WholeName(adapter, whole, &module),
                     .dtype = DType::kF32,
                     .shape = shapes.at(whole.name),
                     .data = std::as_bytes(std::span(whole.values))});
  }
  ROLLCALL_RETURN_IF_ERROR(MakeDirectories(directory));
  ROLLCALL_RETURN_IF_ERROR(
      WriteFileAtomic(directory + std::string(kConfigFile),
                      ConfigJson(ListLinearModules(base, head), head, adapter)));
  return WriteSafetensors(directory + std::string(kWeightsFile), std::move(views),
                          {{"format", "pt"}});
}

}  // namespace rollcall
