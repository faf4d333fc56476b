#include "rollout_worker/runner/snapshot_weights.h"

#include <cstring>
#include <map>
#include <string>
#include <utility>

namespace rollcall {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

// Copies every tensor of the model out of the snapshot, wherever the snapshot keeps it.
Status FillWeights(const std::vector<TensorLayout>& layout, std::span<const std::byte> snapshot,
                   ModelWeights* weights) {
  std::map<std::string, const TensorLayout*> offered;
  for (const TensorLayout& tensor : layout) offered.emplace(tensor.name, &tensor);
  auto* arena = reinterpret_cast<std::byte*>(weights->arena.mutable_data_ptr<float>());
  for (const TensorLayout& wanted : weights->layout) {
    const auto it = offered.find(wanted.name);
    if (it == offered.end()) {
      return InvalidArgument("the published weights lack tensor '" + wanted.name +
                             "', which the model's config.json calls for");
    }
    const TensorLayout& tensor = *it->second;
    if (tensor.shape != wanted.shape || tensor.dtype != wanted.dtype) {
      return InvalidArgument("published tensor '" + wanted.name + "' is " +
                             std::string(DTypeName(tensor.dtype)) + " " + ShapeText(tensor.shape) +
                             ", the model's config.json calls for " +
                             std::string(DTypeName(wanted.dtype)) + " " + ShapeText(wanted.shape));
    }
    if (tensor.size_bytes != wanted.size_bytes || tensor.offset_bytes > snapshot.size() ||
        tensor.size_bytes > snapshot.size() - tensor.offset_bytes) {
      return InvalidArgument("published tensor '" + wanted.name + "' has " +
                             std::to_string(tensor.size_bytes) + " bytes at offset " +
                             std::to_string(tensor.offset_bytes) + " of a snapshot of " +
                             std::to_string(snapshot.size()) + " bytes; its shape needs " +
                             std::to_string(wanted.size_bytes));
    }
    std::memcpy(arena + wanted.offset_bytes, snapshot.data() + tensor.offset_bytes,
                tensor.size_bytes);
    offered.erase(it);
  }
  if (!offered.empty()) {
    return InvalidArgument("published tensor '" + offered.begin()->first +
                           "' does not belong to the model that config.json describes");
  }
  return OkStatus();
}

}  // namespace

StatusOr<ModelWeights> WeightsFromSnapshot(const ModelConfig& config,
                                           const std::vector<TensorLayout>& layout,
                                           std::span<const std::byte> snapshot) {
  return GuardExceptions("loading weights", [&]() -> StatusOr<ModelWeights> {
    ROLLCALL_ASSIGN_OR_RETURN(ModelWeights weights,
                              AllocateWeights(config, Head::kLanguageModel, Gradients::kNone));
    ROLLCALL_RETURN_IF_ERROR(FillWeights(layout, snapshot, &weights));
    return weights;
  });
}

}  // namespace rollcall
