#include "services/model/weights/init_model.h"

#include <vector>

#include "services/model/weights/architecture.h"
#include "services/model/weights/model_writer.h"
#include "services/model/weights/random_init.h"

namespace rollcall {
namespace {

constexpr int64_t kMaxValues = int64_t{1} << 34;

}  // namespace

Status InitModelDirectory(const InitModelOptions& options) {
  ModelConfig config = options.config;
  if (config.head_dim == 0 && config.num_heads > 0) {
    if (config.hidden_size % config.num_heads != 0) {
      return InvalidArgument("'hidden_size' " + std::to_string(config.hidden_size) +
                             " is not a multiple of 'num_attention_heads' " +
                             std::to_string(config.num_heads));
    }
    config.head_dim = config.hidden_size / config.num_heads;
  }
  // The parser knows every bound: what it accepts, transformers and LoadWeights accept.
  ROLLCALL_RETURN_IF_ERROR(ValidateModelConfig(config));
  ROLLCALL_ASSIGN_OR_RETURN(config,
                            ParseModelConfig(ModelConfigToJson(config), "the new model's config"));
  const int64_t values = ArenaValues(ArenaLayout(ListParameters(config, Head::kLanguageModel)));
  if (values > kMaxValues) {
    return InvalidArgument("the model would have " + std::to_string(values) +
                           " parameters; at most " + std::to_string(kMaxValues));
  }
  return GuardExceptions("making model '" + options.directory + "'", [&]() -> Status {
    std::vector<float> arena(static_cast<size_t>(values));
    FillInitialValues(config, Head::kLanguageModel, options.seed, arena);
    return WriteModelDirectory(options.directory, config, Head::kLanguageModel, arena);
  });
}

}  // namespace rollcall
