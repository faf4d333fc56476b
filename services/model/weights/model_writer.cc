#include "services/model/weights/model_writer.h"

#include <cstdio>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "services/common/storage/files.h"
#include "services/model/weights/disk_layout.h"
#include "services/model/weights/safetensors.h"

namespace rollcall {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

uint64_t NumValues(const DiskTensor& tensor) {
  uint64_t count = 1;
  for (const int64_t size : tensor.shape) count *= static_cast<uint64_t>(size);
  return count;
}

// Which tensors go into which file, in order.
std::vector<std::vector<size_t>> CutShards(const std::vector<DiskTensor>& tensors,
                                           const WriteModelOptions& options) {
  std::vector<std::vector<size_t>> shards(1);
  uint64_t size_bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t tensor_bytes = NumValues(tensors[i]) * DTypeSize(options.dtype);
    if (options.max_shard_bytes > 0 && !shards.back().empty() &&
        size_bytes + tensor_bytes > options.max_shard_bytes) {
      shards.emplace_back();
      size_bytes = 0;
    }
    shards.back().push_back(i);
    size_bytes += tensor_bytes;
  }
  return shards;
}

std::string ShardName(size_t index, size_t count) {
  if (count == 1) return kSingleFile;
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

// The files of one model: what is common to writing its shards.
class Writer {
 public:
  Writer(const std::string& directory, std::span<const float> arena,
         const std::vector<DiskTensor>& tensors, const std::vector<TensorLayout>& layout,
         const WriteModelOptions& options)
      : directory_(directory),
        arena_(arena),
        tensors_(tensors),
        layout_(layout),
        options_(options) {}

  Status WriteShard(const std::vector<size_t>& members, const std::string& name) {
    std::vector<SafetensorsView> views;
    // What views point to where the arena's own bytes will not do.
    std::vector<std::vector<std::byte>> converted;
    converted.reserve(members.size());
    for (const size_t index : members) {
      const DiskTensor& tensor = tensors_[index];
      SafetensorsView& view = views.emplace_back(SafetensorsView{
          .name = tensor.name, .dtype = options_.dtype, .shape = tensor.shape, .data = {}});
      if (tensor.is_plain() && options_.dtype == DType::kF32) {
        const TensorLayout& place = layout_[tensor.parts.front().parameter];
        view.data = std::as_bytes(arena_).subspan(place.offset_bytes, place.size_bytes);
        continue;
      }
      ROLLCALL_ASSIGN_OR_RETURN(std::vector<std::byte> bytes, Convert(tensor));
      view.data = converted.emplace_back(std::move(bytes));
    }
    return WriteSafetensors(directory_ + "/" + name, std::move(views), {{"format", "pt"}});
  }

 private:
  StatusOr<std::vector<std::byte>> Convert(const DiskTensor& tensor) {
    values_.resize(NumValues(tensor));
    FillDiskTensor(tensor, layout_, arena_, values_);
    std::vector<std::byte> bytes(values_.size() * DTypeSize(options_.dtype));
    const Status fits = ConvertFromFloat(options_.dtype, values_, bytes);
    if (!fits.ok()) return Annotate(fits, "tensor '" + tensor.name + "'");
    return bytes;
  }

  const std::string& directory_;
  const std::span<const float> arena_;
  const std::vector<DiskTensor>& tensors_;
  const std::vector<TensorLayout>& layout_;
  const WriteModelOptions& options_;
  std::vector<float> values_;  // of one tensor
};

std::string IndexJson(const std::vector<DiskTensor>& tensors,
                      const std::vector<std::vector<size_t>>& shards, DType dtype) {
  uint64_t total_bytes = 0;
  uint64_t total_values = 0;
  std::map<std::string, std::string> file_of;
  for (size_t s = 0; s < shards.size(); ++s) {
    for (const size_t index : shards[s]) {
      total_values += NumValues(tensors[index]);
      total_bytes += NumValues(tensors[index]) * DTypeSize(dtype);
      file_of[tensors[index].name] = ShardName(s, shards.size());
    }
  }
  nlohmann::ordered_json json;
  json["metadata"] = {{"total_parameters", total_values}, {"total_size", total_bytes}};
  json["weight_map"] = file_of;
  return json.dump(2) + "\n";
}

// Removes what another model left: any weights or index that are not among `written`.
Status RemoveOthers(const std::string& directory, const std::set<std::string>& written) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool is_weights = name == kIndexFile || name == kSingleFile ||
                            (name.starts_with("model-") && name.ends_with(".safetensors"));
    if (is_weights && !written.contains(name)) fs::remove(it->path(), error);
  }
  if (error) return Internal(directory + ": cannot remove earlier weights: " + error.message());
  return OkStatus();
}

}  // namespace

Status WriteModelDirectory(const std::string& directory, const ModelConfig& config, Head head,
                           std::span<const float> arena, const WriteModelOptions& options) {
  if (options.dtype != DType::kF32 && options.dtype != DType::kBF16 &&
      options.dtype != DType::kF16) {
    return InvalidArgument("weights are written as F32, BF16 or F16, not as " +
                           std::string(DTypeName(options.dtype)));
  }
  ModelConfig named = config;
  ROLLCALL_RETURN_IF_ERROR(SetArchitectureHead(head, &named));
  const std::vector<ParameterSpec> parameters = ListParameters(config, head);
  const std::vector<TensorLayout> layout = ArenaLayout(parameters);
  ROLLCALL_CHECK(static_cast<int64_t>(arena.size()) >= ArenaValues(layout));
  const std::vector<DiskTensor> tensors = ListDiskTensors(config, head, parameters);
  const std::vector<std::vector<size_t>> shards = CutShards(tensors, options);

  ROLLCALL_RETURN_IF_ERROR(MakeDirectories(directory));
  ROLLCALL_RETURN_IF_ERROR(
      WriteFileAtomic(directory + "/config.json", ModelConfigToJson(named, options.dtype)));
  ROLLCALL_RETURN_IF_ERROR(
      WriteFileAtomic(directory + "/generation_config.json", GenerationConfigToJson(named)));
  Writer writer(directory, arena, tensors, layout, options);
  std::set<std::string> written;
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string name = ShardName(s, shards.size());
    ROLLCALL_RETURN_IF_ERROR(writer.WriteShard(shards[s], name));
    written.insert(name);
  }
  if (shards.size() > 1) {
    ROLLCALL_RETURN_IF_ERROR(
        WriteFileAtomic(directory + "/" + kIndexFile, IndexJson(tensors, shards, options.dtype)));
    written.insert(kIndexFile);
  }
  return RemoveOthers(directory, written);
}

}  // namespace rollcall
