#include "services/model/adapter/linear_modules.h"

#include <string_view>
#include <utility>

namespace rollcall {

std::vector<LinearModule> ListLinearModules(const ModelConfig& config, Head head) {
  constexpr std::string_view kWeight = ".weight";
  const std::vector<ParameterSpec> parameters = ListParameters(config, head);
  std::vector<LinearModule> modules;
  for (DiskTensor& tensor : ListDiskTensors(config, head, parameters)) {
    const ParameterSpec& first = parameters[tensor.parts.front().parameter];
    const bool is_embedding = first.role == ParameterRole::kEmbedding ||
                              first.role == ParameterRole::kPositionEmbedding ||
                              first.role == ParameterRole::kValueHead;
    if (tensor.shape.size() != 2 || is_embedding || !tensor.name.ends_with(kWeight)) continue;
    LinearModule module;
    module.name = tensor.name.substr(0, tensor.name.size() - kWeight.size());
    module.num_inputs = tensor.shape[tensor.is_transposed ? 0 : 1];
    module.num_outputs = tensor.shape[tensor.is_transposed ? 1 : 0];
    module.is_in_layer = first.layer >= 0;
    module.is_transposed = tensor.is_transposed;
    module.parts = std::move(tensor.parts);
    modules.push_back(std::move(module));
  }
  return modules;
}

}  // namespace rollcall
