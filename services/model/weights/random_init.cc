#include "services/model/weights/random_init.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/base/status/status.h"

namespace rollcall {
namespace {

constexpr uint64_t kPurpose = 0x696e6974;  // "init"
constexpr double kDeviation = 0.02;

}  // namespace

void FillInitialValues(const ModelConfig& config, Head head, uint64_t seed,
                       std::span<float> arena) {
  const std::vector<ParameterSpec> parameters = ListParameters(config, head);
  const std::vector<TensorLayout> layout = ArenaLayout(parameters);
  ROLLCALL_CHECK(static_cast<int64_t>(arena.size()) == ArenaValues(layout));
  std::fill(arena.begin(), arena.end(), 0.0F);
  const double residual_scale = 1.0 / std::sqrt(2.0 * static_cast<double>(config.num_layers));
  for (size_t i = 0; i < parameters.size(); ++i) {
    const std::span<float> values =
        arena.subspan(layout[i].offset_bytes / sizeof(float), layout[i].size_bytes / sizeof(float));
    double deviation = kDeviation;
    switch (parameters[i].role) {
      case ParameterRole::kInputNorm:
      case ParameterRole::kQNorm:
      case ParameterRole::kKNorm:
      case ParameterRole::kAttentionOutNorm:
      case ParameterRole::kMlpNorm:
      case ParameterRole::kMlpOutNorm:
      case ParameterRole::kFinalNorm:
        std::fill(values.begin(), values.end(), config.is_norm_weight_from_one ? 0.0F : 1.0F);
        continue;
      case ParameterRole::kValueHead:
      case ParameterRole::kScore:
        continue;
      case ParameterRole::kOProj:
      case ParameterRole::kDownProj:
        deviation *= residual_scale;
        break;
      default:
        if (parameters[i].shape.size() == 1) continue;  // biases
        break;
    }
    const std::array<uint64_t, 4> words = {seed, kPurpose,
                                           static_cast<uint64_t>(parameters[i].layer + 1),
                                           static_cast<uint64_t>(parameters[i].role)};
    CounterRandom random(MixKey(words));
    for (float& value : values) value = static_cast<float>(deviation * random.Normal());
  }
}

}  // namespace rollcall
