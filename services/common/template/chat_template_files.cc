// Chat templates of a model directory.
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/common/storage/files.h"
#include "services/common/template/chat_template.h"

namespace rollcall {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 64 << 20;
constexpr int kMaxConfigDepth = 64;
constexpr size_t kMaxTemplates = 100;
constexpr const char* kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};

// The JSON object of a file; an empty one when there is no such file.
StatusOr<Json> ReadObject(const std::string& path) {
  StatusOr<std::string> text = ReadFile(path, kMaxConfigBytes);
  if (text.status().code() == StatusCode::kNotFound) return Json::object();
  ROLLCALL_RETURN_IF_ERROR(text.status());
  bool too_deep = false;
  Json json = Json::parse(
      *text,
      [&](int depth, Json::parse_event_t /*event*/, const Json& /*parsed*/) {
        too_deep = too_deep || depth > kMaxConfigDepth;
        return !too_deep;
      },
      /*allow_exceptions=*/false);
  if (too_deep) {
    return InvalidArgument(path + ": nested deeper than " + std::to_string(kMaxConfigDepth));
  }
  if (!json.is_object()) return InvalidArgument(path + ": expected a JSON object");
  return json;
}

// A token as text, or as an object with its content.
Status AddSpecialTokens(const Json& json, const std::string& path,
                        std::map<std::string, std::string>* tokens) {
  for (const char* name : kSpecialTokens) {
    const auto it = json.find(name);
    if (it == json.end() || it->is_null() || tokens->contains(name)) continue;
    if (it->is_string()) {
      tokens->emplace(name, it->get<std::string>());
      continue;
    }
    const auto content = it->is_object() ? it->find("content") : it->end();
    if (!it->is_object() || content == it->end() || !content->is_string()) {
      return InvalidArgument(path + ": '" + name +
                             "' is neither a text nor an object with the text "
                             "'content'");
    }
    tokens->emplace(name, content->get<std::string>());
  }
  return OkStatus();
}

class Loader {
 public:
  Loader(const std::string& directory, const TemplateLimits& limits)
      : directory_(directory), limits_(limits) {}

  StatusOr<ChatTemplates> Run();

 private:
  Status AddFile(const std::string& name, const std::string& path);
  Status AddText(const std::string& name, std::string source, std::string origin);
  Status AddDirectory();
  Status AddConfig(const Json& config, const std::string& path);

  const std::string& directory_;
  const TemplateLimits& limits_;
  std::map<std::string, std::string> tokens_;
  ChatTemplates templates_;
};

Status Loader::AddText(const std::string& name, std::string source, std::string origin) {
  if (templates_.names().size() >= kMaxTemplates) {
    return ResourceExhausted(origin + ": more than " + std::to_string(kMaxTemplates) +
                             " chat templates");
  }
  ROLLCALL_ASSIGN_OR_RETURN(
      ChatTemplate parsed,
      ChatTemplate::Parse(std::move(source), std::move(origin), tokens_, limits_));
  templates_.Add(name, std::make_shared<const ChatTemplate>(std::move(parsed)));
  return OkStatus();
}

Status Loader::AddFile(const std::string& name, const std::string& path) {
  ROLLCALL_ASSIGN_OR_RETURN(std::string source, ReadFile(path, limits_.max_template_bytes));
  return AddText(name, std::move(source), path);
}

Status Loader::AddDirectory() {
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  const std::filesystem::path folder =
      std::filesystem::path(directory_) / "additional_chat_templates";
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".jinja") paths.push_back(it->path());
  }
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    ROLLCALL_RETURN_IF_ERROR(AddFile(path.stem().string(), path.string()));
  }
  return OkStatus();
}

Status Loader::AddConfig(const Json& config, const std::string& path) {
  const auto it = config.find("chat_template");
  if (it == config.end() || it->is_null()) return OkStatus();
  const std::string origin = path + ": chat_template";
  if (it->is_string()) return AddText("default", it->get<std::string>(), origin);
  Status malformed = InvalidArgument(
      origin + " is neither a text nor a list of objects with the texts 'name' and 'template'");
  if (!it->is_array()) return malformed;
  for (const Json& entry : *it) {
    if (!entry.is_object()) return malformed;
    const auto name = entry.find("name");
    const auto source = entry.find("template");
    if (name == entry.end() || source == entry.end() || !name->is_string() ||
        !source->is_string()) {
      return malformed;
    }
    const std::string text = name->get<std::string>();
    std::string place = origin;
    place.append(" '").append(text).append("'");
    ROLLCALL_RETURN_IF_ERROR(AddText(text, source->get<std::string>(), std::move(place)));
  }
  return OkStatus();
}

StatusOr<ChatTemplates> Loader::Run() {
  const std::string config_path = directory_ + "/tokenizer_config.json";
  const std::string map_path = directory_ + "/special_tokens_map.json";
  ROLLCALL_ASSIGN_OR_RETURN(const Json config, ReadObject(config_path));
  ROLLCALL_ASSIGN_OR_RETURN(const Json token_map, ReadObject(map_path));
  ROLLCALL_RETURN_IF_ERROR(AddSpecialTokens(config, config_path, &tokens_));
  ROLLCALL_RETURN_IF_ERROR(AddSpecialTokens(token_map, map_path, &tokens_));
  const std::string file = directory_ + "/chat_template.jinja";
  std::error_code error;
  if (std::filesystem::exists(file, error)) {
    ROLLCALL_RETURN_IF_ERROR(AddFile("default", file));
  }
  ROLLCALL_RETURN_IF_ERROR(AddDirectory());
  if (templates_.empty()) ROLLCALL_RETURN_IF_ERROR(AddConfig(config, config_path));
  if (templates_.empty()) {
    return NotFound(directory_ +
                    " has no chat template: neither chat_template.jinja nor "
                    "'chat_template' in tokenizer_config.json");
  }
  return std::move(templates_);
}

}  // namespace

StatusOr<ChatTemplates> LoadChatTemplates(const std::string& directory,
                                          const TemplateLimits& limits) {
  return Loader(directory, limits).Run();
}

}  // namespace rollcall
