#include "services/model/weights/model_files.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <set>
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

// Widens the bits of an IEEE half; subnormals, infinities and NaN included.
float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
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

StatusOr<ModelFiles::Found> ModelFiles::Find(const ParameterSpec& parameter) const {
  for (const SafetensorsFile& shard : shards_) {
    const TensorLayout* layout = shard.Find(parameter.name);
    if (layout == nullptr) continue;
    if (layout->shape != parameter.shape) {
      return InvalidArgument(shard.path() + ": tensor '" + parameter.name + "' has shape " +
                             ShapeText(layout->shape) + "; config.json asks for " +
                             ShapeText(parameter.shape));
    }
    if (layout->dtype != DType::kF32 && layout->dtype != DType::kBF16 &&
        layout->dtype != DType::kF16) {
      return InvalidArgument(shard.path() + ": tensor '" + parameter.name + "' is " +
                             std::string(DTypeName(layout->dtype)) +
                             "; weights must be F32, BF16 or F16");
    }
    return Found{layout, shard.Data(*layout), &shard.path()};
  }
  return NotFound(directory_ + ": tensor '" + parameter.name + "' of shape " +
                  ShapeText(parameter.shape) + " is missing");
}

StatusOr<ModelDirectoryInfo> CheckModelDirectory(const std::string& directory) {
  ROLLCALL_ASSIGN_OR_RETURN(const ModelFiles files, ModelFiles::Open(directory));
  ModelDirectoryInfo info;
  info.config = files.config();
  info.num_files = static_cast<int>(files.shards().size());
  std::array<uint64_t, 3> bytes_of_dtype{};  // indexed by DType: F32, BF16, F16
  for (const ParameterSpec& parameter : ListParameters(info.config, Head::kValue)) {
    auto found = files.Find(parameter);
    if (parameter.role == ParameterRole::kValueHead) {
      if (found.status().code() == StatusCode::kNotFound) continue;
      if (found.ok()) info.has_value_head = true;
    }
    ROLLCALL_RETURN_IF_ERROR(found.status());
    info.size_bytes += found->data.size();
    bytes_of_dtype[static_cast<size_t>(found->layout->dtype)] += found->data.size();
  }
  // A critic that was saved alone has no output projection.
  if (!info.config.tie_word_embeddings) {
    auto found = files.Find(ListParameters(info.config, Head::kLanguageModel).back());
    info.has_output_projection = found.ok();
    if (found.ok()) {
      info.size_bytes += found->data.size();
      bytes_of_dtype[static_cast<size_t>(found->layout->dtype)] += found->data.size();
    } else if (!info.has_value_head || found.status().code() != StatusCode::kNotFound) {
      return found.status();
    }
  }
  info.dtype = static_cast<DType>(std::max_element(bytes_of_dtype.begin(), bytes_of_dtype.end()) -
                                  bytes_of_dtype.begin());
  info.num_parameters = NumParameters(info.config);
  return info;
}

void ConvertToFloat(DType dtype, std::span<const std::byte> in, std::span<float> out) {
  ROLLCALL_CHECK(in.size() == out.size() * DTypeSize(dtype));
  if (dtype == DType::kF32) {
    if (!in.empty()) std::memcpy(out.data(), in.data(), in.size());
    return;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, in.data() + 2 * i, sizeof(bits));
    out[i] = dtype == DType::kBF16 ? std::bit_cast<float>(static_cast<uint32_t>(bits) << 16)
                                   : HalfToFloat(bits);
  }
}

Status WriteModelDirectory(const std::string& directory, const ModelConfig& config, Head head,
                           std::span<const float> arena) {
  const std::vector<TensorLayout> layout = ArenaLayout(ListParameters(config, head));
  ROLLCALL_CHECK(static_cast<int64_t>(arena.size()) >= ArenaValues(layout));
  const std::span<const std::byte> bytes = std::as_bytes(arena);
  std::vector<SafetensorsView> views;
  views.reserve(layout.size());
  for (const TensorLayout& tensor : layout) {
    views.push_back({.name = tensor.name,
                     .dtype = tensor.dtype,
                     .shape = tensor.shape,
                     .data = bytes.subspan(tensor.offset_bytes, tensor.size_bytes)});
  }
  ROLLCALL_RETURN_IF_ERROR(MakeDirectories(directory));
  ROLLCALL_RETURN_IF_ERROR(WriteFileAtomic(directory + "/config.json", ModelConfigToJson(config)));
  ROLLCALL_RETURN_IF_ERROR(
      WriteFileAtomic(directory + "/generation_config.json", GenerationConfigToJson(config)));
  return WriteSafetensors(directory + "/model.safetensors", std::move(views), {{"format", "pt"}});
}

}  // namespace rollcall
