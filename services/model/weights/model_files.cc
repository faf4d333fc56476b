#include "services/model/weights/model_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/common/storage/files.h"

namespace rollcall {
namespace {

constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr uint64_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxShards = 1024;

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

// File names of the shards that model.safetensors.index.json lists.
StatusOr<std::vector<std::string>> ReadIndex(const std::string& path) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxIndexBytes));
  return GuardExceptions(path, [&]() -> StatusOr<std::vector<std::string>> {
    const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    const auto map = json.is_object() ? json.find("weight_map") : json.end();
    if (!json.is_object() || map == json.end() || !map->is_object()) {
      return InvalidArgument(path + ": expected a JSON object with 'weight_map'");
    }
    std::set<std::string> names;
    for (const auto& [tensor, file] : map->items()) {
      if (!file.is_string()) {
        return InvalidArgument(path + ": the file of tensor '" + tensor + "' is not text");
      }
      const std::string name = file.get<std::string>();
      if (name.empty() || name.find('/') != std::string::npos || name.front() == '.') {
        return InvalidArgument(path + ": '" + name + "' is not the plain name of a file");
      }
      names.insert(name);
      if (names.size() > kMaxShards) {
        return InvalidArgument(path + ": more than " + std::to_string(kMaxShards) + " shards");
      }
    }
    return std::vector<std::string>(names.begin(), names.end());
  });
}

bool Exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

// Sums up what was found.
struct Tally {
  uint64_t size_bytes = 0;
  std::array<uint64_t, 3> bytes_of_dtype{};  // indexed by DType: F32, BF16, F16

  void Add(const ModelFiles::Found& found) {
    size_bytes += found.data.size();
    bytes_of_dtype[static_cast<size_t>(found.layout->dtype)] += found.data.size();
  }
};

// All tensors of a decoder with this head; the head's own only when they are there, unless they
// are `wanted`. Says whether they were.
enum class HeadTensors { kWanted, kOptional };
StatusOr<bool> TallyTensors(const ModelFiles& files, Head head, HeadTensors mode, Tally& tally) {
  const std::vector<ParameterSpec> parameters = ListParameters(files.config(), head);
  bool has_head = true;
  for (const DiskTensor& tensor : ListDiskTensors(files.config(), head, parameters)) {
    const auto found = files.Find(tensor);
    if (mode == HeadTensors::kOptional && found.status().code() == StatusCode::kNotFound &&
        IsHeadRole(parameters[tensor.parts.front().parameter].role)) {
      has_head = false;
      continue;
    }
    ROLLCALL_RETURN_IF_ERROR(found.status());
    tally.Add(*found);
  }
  return has_head;
}

}  // namespace

StatusOr<ModelFiles> ModelFiles::Open(const std::string& directory) {
  ModelFiles files;
  files.directory_ = directory;
  const std::string config_path = directory + "/config.json";
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text, ReadFile(config_path, kMaxConfigBytes));
  ROLLCALL_ASSIGN_OR_RETURN(files.config_, ParseModelConfig(text, config_path));

  std::vector<std::string> names = {"model.safetensors"};
  const std::string index_path = directory + "/model.safetensors.index.json";
  if (!Exists(directory + "/model.safetensors") && Exists(index_path)) {
    ROLLCALL_ASSIGN_OR_RETURN(names, ReadIndex(index_path));
  }
  std::set<std::string_view> seen;
  for (const std::string& name : names) {
    ROLLCALL_ASSIGN_OR_RETURN(SafetensorsFile shard, SafetensorsFile::Open(directory + "/" + name));
    files.shards_.push_back(std::move(shard));
  }
  for (const SafetensorsFile& shard : files.shards_) {
    for (const TensorLayout& tensor : shard.header().tensors) {
      if (!seen.insert(tensor.name).second) {
        return InvalidArgument(shard.path() + ": tensor '" + tensor.name +
                               "' is in another shard as well");
      }
    }
  }
  return files;
}

StatusOr<ModelFiles::Found> ModelFiles::Find(const DiskTensor& tensor) const {
  std::vector<std::string_view> names = {tensor.name};
  names.insert(names.end(), tensor.aliases.begin(), tensor.aliases.end());
  for (const std::string_view name : names) {
    for (const SafetensorsFile& shard : shards_) {
      const TensorLayout* layout = shard.Find(std::string(name));
      if (layout == nullptr) continue;
      if (layout->shape != tensor.shape) {
        return InvalidArgument(shard.path() + ": tensor '" + layout->name + "' has shape " +
                               ShapeText(layout->shape) + "; config.json asks for " +
                               ShapeText(tensor.shape));
      }
      if (layout->dtype != DType::kF32 && layout->dtype != DType::kBF16 &&
          layout->dtype != DType::kF16) {
        return InvalidArgument(shard.path() + ": tensor '" + layout->name + "' is " +
                               std::string(DTypeName(layout->dtype)) +
                               "; weights must be F32, BF16 or F16");
      }
      return Found{layout, shard.Data(*layout), &shard.path()};
    }
  }
  return NotFound(directory_ + ": tensor '" + tensor.name + "' of shape " +
                  ShapeText(tensor.shape) + " is missing");
}

StatusOr<ModelDirectoryInfo> CheckModelDirectory(const std::string& directory) {
  ROLLCALL_ASSIGN_OR_RETURN(const ModelFiles files, ModelFiles::Open(directory));
  ModelDirectoryInfo info;
  info.config = files.config();
  info.num_files = static_cast<int>(files.shards().size());
  info.head = HeadOfArchitecture(info.config);
  Tally tally;
  if (info.head != Head::kLanguageModel) {
    info.has_output_projection = false;
    ROLLCALL_RETURN_IF_ERROR(TallyTensors(files, info.head, HeadTensors::kWanted, tally).status());
  } else {
    ROLLCALL_ASSIGN_OR_RETURN(info.has_value_head,
                              TallyTensors(files, Head::kValue, HeadTensors::kOptional, tally));
    // A critic that was saved alone has no output projection.
    if (!info.config.tie_word_embeddings) {
      const std::vector<ParameterSpec> parameters =
          ListParameters(info.config, Head::kLanguageModel);
      const auto found =
          files.Find(ListDiskTensors(info.config, Head::kLanguageModel, parameters).back());
      info.has_output_projection = found.ok();
      if (found.ok()) {
        tally.Add(*found);
      } else if (!info.has_value_head || found.status().code() != StatusCode::kNotFound) {
        return found.status();
      }
    }
  }
  info.size_bytes = tally.size_bytes;
  info.dtype = static_cast<DType>(std::ranges::max_element(tally.bytes_of_dtype) -
                                  tally.bytes_of_dtype.begin());
  info.num_parameters = NumParameters(info.config);
  return info;
}

StatusOr<std::vector<bool>> CheckParameters(const ModelFiles& files, Head head) {
  const std::vector<ParameterSpec> parameters = ListParameters(files.config(), head);
  std::vector<bool> is_found;
  for (const DiskTensor& tensor : ListDiskTensors(files.config(), head, parameters)) {
    const auto found = files.Find(tensor);
    const bool is_optional =
        parameters[tensor.parts.front().parameter].role == ParameterRole::kValueHead;
    is_found.push_back(found.ok());
    if (is_optional && found.status().code() == StatusCode::kNotFound) continue;
    ROLLCALL_RETURN_IF_ERROR(found.status());
  }
  return is_found;
}

Status ReadParameters(const ModelFiles& files, Head head, std::span<float> arena) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::vector<bool> is_found, CheckParameters(files, head));
  const std::vector<ParameterSpec> parameters = ListParameters(files.config(), head);
  const std::vector<TensorLayout> layout = ArenaLayout(parameters);
  ROLLCALL_CHECK(static_cast<int64_t>(arena.size()) >= ArenaValues(layout));
  const std::vector<DiskTensor> tensors = ListDiskTensors(files.config(), head, parameters);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!is_found[i]) continue;
    ROLLCALL_ASSIGN_OR_RETURN(const ModelFiles::Found found, files.Find(tensors[i]));
    ReadDiskTensor(tensors[i], layout, found.layout->dtype, found.data, arena);
    ReleasePages(found.data);
  }
  return OkStatus();
}

}  // namespace rollcall
