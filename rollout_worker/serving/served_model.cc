#include "rollout_worker/serving/served_model.h"

#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/common/storage/files.h"

namespace rollcall {
namespace {

constexpr uint64_t kMaxConfigBytes = 1 << 20;

template <typename T>
std::optional<T> ReadNumber(const nlohmann::json& config, const char* key) {
  const auto it = config.find(key);
  if (it == config.end() || !it->is_number()) return std::nullopt;
  return it->get<T>();
}

Status ReadEndTokens(const nlohmann::json& config, const std::string& path,
                     std::vector<int32_t>* tokens) {
  const auto it = config.find("eos_token_id");
  if (it == config.end() || it->is_null()) return OkStatus();
  const nlohmann::json list = it->is_array() ? *it : nlohmann::json::array({*it});
  tokens->clear();
  for (const nlohmann::json& token : list) {
    if (!token.is_number_integer() || token < 0 || token > INT32_MAX) {
      return InvalidArgument(path + ": 'eos_token_id' must be a token id or a list of them");
    }
    tokens->push_back(token.get<int32_t>());
  }
  return OkStatus();
}

Status ReadGenerationConfig(const std::string& directory, ServedModel* model) {
  const std::string path = directory + "/generation_config.json";
  const StatusOr<std::string> text = ReadFile(path, kMaxConfigBytes);
  if (text.status().code() == StatusCode::kNotFound) return OkStatus();
  if (!text.ok()) return text.status();
  const nlohmann::json config = nlohmann::json::parse(*text, nullptr, false);
  if (!config.is_object()) return InvalidArgument(path + " is not a JSON object");
  ROLLCALL_RETURN_IF_ERROR(ReadEndTokens(config, path, &model->eos_token_ids));
  model->defaults = {.temperature = ReadNumber<double>(config, "temperature"),
                     .top_p = ReadNumber<double>(config, "top_p"),
                     .top_k = ReadNumber<int32_t>(config, "top_k"),
                     .min_p = ReadNumber<double>(config, "min_p"),
                     .repetition_penalty = ReadNumber<double>(config, "repetition_penalty")};
  return OkStatus();
}

class FixedCatalog final : public ModelCatalog {
 public:
  explicit FixedCatalog(std::vector<std::shared_ptr<const ServedModel>> models)
      : models_(std::move(models)) {}

  std::vector<std::shared_ptr<const ServedModel>> List() override { return models_; }

  StatusOr<std::shared_ptr<const ServedModel>> Find(const std::string& name) override {
    if (name.empty() && models_.size() == 1) return models_.front();
    std::string names;
    for (const auto& model : models_) {
      if (model->name == name) return model;
      names += (names.empty() ? "'" : ", '") + model->name + "'";
    }
    return NotFound("there is no model '" + name + "'; served: " + names);
  }

 private:
  const std::vector<std::shared_ptr<const ServedModel>> models_;
};

}  // namespace

StatusOr<ServedModel> ReadServedModel(const std::string& directory, const ModelConfig& config,
                                      const std::string& name, absl::Time now) {
  ServedModel model{
      .name = name, .created = now, .config = config, .eos_token_ids = config.eos_token_ids};
  ROLLCALL_ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(directory));
  ROLLCALL_RETURN_IF_ERROR(CheckTokenizerFits(*model.tokenizer, config.vocab_size));
  ROLLCALL_RETURN_IF_ERROR(ReadGenerationConfig(directory, &model));
  model.grammars = std::make_shared<GrammarCache>(model.tokenizer, config.vocab_size);
  StatusOr<ChatTemplates> templates = LoadChatTemplates(directory);
  if (templates.ok()) {
    model.chat_templates = *std::move(templates);
  } else {
    model.chat_template_problem = Message(templates.status());
  }
  return model;
}

std::unique_ptr<ModelCatalog> MakeFixedCatalog(
    std::vector<std::shared_ptr<const ServedModel>> models) {
  return std::make_unique<FixedCatalog>(std::move(models));
}

}  // namespace rollcall
