#include "services/model/adapter/lora_adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>

#include "services/base/runtime/random.h"

namespace rollcall {
namespace {

constexpr int64_t kMaxRank = 4096;
constexpr uint64_t kInitStream = 0x6c6f7261;  // "lora"
constexpr std::string_view kAllLinear = "all-linear";

std::string_view LastPart(std::string_view name) { return name.substr(name.rfind('.') + 1); }

uint64_t NameKey(std::string_view name) {
  std::vector<uint64_t> words;
  words.reserve(name.size());
  for (const char c : name) words.push_back(static_cast<uint8_t>(c));
  return MixKey(words);
}

int64_t OutputOf(const DiskPart& part, int64_t row) {
  return part.first + (row / part.group) * part.stride + row % part.group;
}

}  // namespace

double LoraScale(const LoraAdapter& adapter, const LoraModule& module) {
  const auto rank = static_cast<double>(module.rank);
  return module.alpha / (adapter.is_rank_stabilised ? std::sqrt(rank) : rank);
}

StatusOr<LoraAdapter> MakeAdapter(const ModelConfig& base, Head head, const LoraOptions& options) {
  if (options.rank < 1 || options.rank > kMaxRank) {
    return InvalidArgument("the rank is " + std::to_string(options.rank) + "; expected 1 to " +
                           std::to_string(kMaxRank));
  }
  if (!(options.alpha > 0) || !std::isfinite(options.alpha)) {
    return InvalidArgument("alpha is " + std::to_string(options.alpha) +
                           "; expected a number above 0");
  }
  const std::vector<LinearModule> linears = ListLinearModules(base, head);
  std::map<std::string_view, int> found;
  for (const std::string& target : options.targets) found[target] = 0;
  LoraAdapter adapter;
  adapter.is_rank_stabilised = options.is_rank_stabilised;
  for (const LinearModule& linear : linears) {
    const auto named = found.find(LastPart(linear.name));
    const auto all = found.find(kAllLinear);
    if (named == found.end() && (all == found.end() || !linear.is_in_layer)) continue;
    if (named != found.end()) ++named->second;
    if (all != found.end() && linear.is_in_layer) ++all->second;
    LoraModule module{
        .name = linear.name,
        .rank = options.rank,
        .alpha = options.alpha,
        .num_inputs = linear.num_inputs,
        .num_outputs = linear.num_outputs,
        .a = std::vector<float>(static_cast<size_t>(options.rank * linear.num_inputs)),
        .b = std::vector<float>(static_cast<size_t>(options.rank * linear.num_outputs))};
    const uint64_t words[] = {options.seed, kInitStream, NameKey(linear.name)};
    CounterRandom random(MixKey(words));
    const double bound = 1.0 / std::sqrt(static_cast<double>(linear.num_inputs));
    for (float& value : module.a) value = static_cast<float>(bound * (2 * random.Uniform() - 1));
    adapter.modules.push_back(std::move(module));
  }
  for (const auto& [target, count] : found) {
    if (count > 0) continue;
    std::map<std::string_view, int> known;
    for (const LinearModule& linear : linears) known[LastPart(linear.name)] = 0;
    std::string names;
    for (const auto& [name, unused] : known) {
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    return InvalidArgument("the model has no linear module '" + std::string(target) + "'; it has " +
                           names + " (or all-linear)");
  }
  return adapter;
}

std::vector<float> LoraRows(const LoraModule& module, const DiskPart& part, int64_t num_outputs) {
  std::vector<float> rows(static_cast<size_t>(num_outputs * module.rank));
  for (int64_t row = 0; row < num_outputs; ++row) {
    std::copy_n(module.b.data() + OutputOf(part, row) * module.rank, module.rank,
                rows.data() + row * module.rank);
  }
  return rows;
}

void SetLoraRows(const DiskPart& part, std::span<const float> rows, LoraModule* module) {
  const auto num_outputs = static_cast<int64_t>(rows.size()) / module->rank;
  for (int64_t row = 0; row < num_outputs; ++row) {
    std::copy_n(rows.data() + row * module->rank, module->rank,
                module->b.data() + OutputOf(part, row) * module->rank);
  }
}

void MergeAdapter(const LoraAdapter& adapter, const ModelConfig& base, Head head,
                  std::span<float> arena) {
  const std::vector<ParameterSpec> parameters = ListParameters(base, head);
  const std::vector<TensorLayout> layout = ArenaLayout(parameters);
  ROLLCALL_CHECK(static_cast<int64_t>(arena.size()) >= ArenaValues(layout));
  std::map<std::string_view, const WholeTensor*> whole;
  for (const WholeTensor& tensor : adapter.whole_tensors) whole[tensor.name] = &tensor;
  for (const DiskTensor& tensor : ListDiskTensors(base, head, parameters)) {
    const auto found = whole.find(tensor.name);
    if (found == whole.end()) continue;
    ReadDiskTensor(tensor, layout, DType::kF32, std::as_bytes(std::span(found->second->values)),
                   arena);
  }
  std::map<std::string_view, const LoraModule*> by_name;
  for (const LoraModule& module : adapter.modules) by_name[module.name] = &module;
  for (const LinearModule& linear : ListLinearModules(base, head)) {
    const auto found = by_name.find(linear.name);
    if (found == by_name.end()) continue;
    const LoraModule& module = *found->second;
    ROLLCALL_CHECK(module.num_inputs == linear.num_inputs &&
                   module.num_outputs == linear.num_outputs);
    const double scale = LoraScale(adapter, module);
    std::vector<double> delta(static_cast<size_t>(module.num_inputs));
    for (const DiskPart& part : linear.parts) {
      float* weight = arena.data() + layout[part.parameter].offset_bytes / sizeof(float);
      for (int64_t row = 0; row < parameters[part.parameter].shape.front(); ++row) {
        const float* b = module.b.data() + OutputOf(part, row) * module.rank;
        std::fill(delta.begin(), delta.end(), 0.0);
        for (int64_t k = 0; k < module.rank; ++k) {
          const float* a = module.a.data() + k * module.num_inputs;
          for (int64_t i = 0; i < module.num_inputs; ++i) delta[i] += double{b[k]} * double{a[i]};
        }
        for (int64_t i = 0; i < module.num_inputs; ++i) {
          weight[i] = static_cast<float>(weight[i] + scale * delta[i]);
        }
        weight += module.num_inputs;
      }
    }
  }
}

}  // namespace rollcall
