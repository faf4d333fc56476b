#include "trainer/checkpoint/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "services/common/storage/files.h"
#include "services/model/weights/model_writer.h"
#include "services/model/weights/safetensors.h"
#include "trainer/checkpoint/directory.h"

namespace rollcall {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kFormat = 1;
constexpr uint64_t kMaxStateBytes = 1 << 20;
constexpr const char* kStateFile = "trainer_state.json";
constexpr const char* kOptimizerFile = "optimizer.safetensors";

SafetensorsView MomentView(const std::string& name, std::span<const float> values) {
  return {.name = name,
          .dtype = DType::kF32,
          .shape = {static_cast<int64_t>(values.size())},
          .data = std::as_bytes(values)};
}

Status WriteOptimizer(const std::string& directory, const CheckpointView& view) {
  std::vector<SafetensorsView> views = {
      MomentView("policy.first_moment", view.policy.first_moment),
      MomentView("policy.second_moment", view.policy.second_moment)};
  if (view.critic.has_value()) {
    views.push_back(MomentView("critic.first_moment", view.critic->first_moment));
    views.push_back(MomentView("critic.second_moment", view.critic->second_moment));
  }
  return WriteSafetensors(directory + "/" + kOptimizerFile, std::move(views), {});
}

// Paths of all files below the directory, relative to it, in order.
std::vector<std::string> ListFiles(const std::string& directory) {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) files.push_back(fs::relative(entry.path(), directory).string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Status WriteState(const std::string& directory, const CheckpointView& view) {
  json files = json::object();
  for (const std::string& name : ListFiles(directory)) {
    ROLLCALL_ASSIGN_OR_RETURN(const FileFingerprint fingerprint,
                              FingerprintFile(directory + "/" + name));
    files[name] = {{"size_bytes", fingerprint.size_bytes},
                   {"xxh3_128", HexString(fingerprint.hash)}};
  }
  json state = {{"format", kFormat},        {"job_id", view.job_id},
                {"step", view.step},        {"policy_version", view.step},
                {"seed", view.seed},        {"policy_updates", view.policy.num_updates},
                {"files", std::move(files)}};
  if (view.critic.has_value()) state["critic_updates"] = view.critic->num_updates;
  return WriteFileAtomic(directory + "/" + kStateFile, state.dump(2) + "\n");
}

StatusOr<json> ReadState(const std::string& directory) {
  const std::string path = directory + "/" + kStateFile;
  StatusOr<std::string> text = ReadFile(path, kMaxStateBytes);
  if (text.status().code() == StatusCode::kNotFound) {
    return NotFound("there is no checkpoint in '" + directory + "': " + kStateFile + " is missing");
  }
  ROLLCALL_RETURN_IF_ERROR(text.status());
  json state = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!state.is_object()) return DataLoss(path + " is not a JSON object");
  const auto is_count = [&](const char* key) {
    return state.contains(key) && state[key].is_number_integer() && state[key] >= 0;
  };
  for (const char* key : {"format", "step", "seed", "policy_updates"}) {
    if (!is_count(key)) return DataLoss(path + ": '" + key + "' is not a count");
  }
  if (state["format"] != kFormat) {
    return FailedPrecondition(path + ": format " + state["format"].dump() +
                              " is not the one this binary reads (" + std::to_string(kFormat) +
                              ")");
  }
  if (state.contains("critic_updates") && !is_count("critic_updates")) {
    return DataLoss(path + ": 'critic_updates' is not a count");
  }
  if (!state.contains("files") || !state["files"].is_object()) {
    return DataLoss(path + ": 'files' is missing");
  }
  return state;
}

Status VerifyFiles(const std::string& directory, const json& files) {
  for (const auto& [name, entry] : files.items()) {
    const std::string path = directory + "/" + name;
    const StatusOr<FileFingerprint> fingerprint = FingerprintFile(path);
    if (!fingerprint.ok()) {
      return DataLoss("checkpoint file is missing or unreadable: " + Message(fingerprint.status()));
    }
    const uint64_t size = entry.value("size_bytes", uint64_t{0});
    if (fingerprint->size_bytes != size) {
      return DataLoss("checkpoint file " + path + " has " +
                      std::to_string(fingerprint->size_bytes) + " bytes, " + std::to_string(size) +
                      " were written");
    }
    if (HexString(fingerprint->hash) != entry.value("xxh3_128", std::string())) {
      return DataLoss("checkpoint file " + path + " has changed since it was written (hash " +
                      HexString(fingerprint->hash) + ")");
    }
  }
  return OkStatus();
}

StatusOr<std::vector<float>> ReadMoment(const SafetensorsFile& file, const std::string& name) {
  const TensorLayout* tensor = file.Find(name);
  if (tensor == nullptr || tensor->dtype != DType::kF32 || tensor->shape.size() != 1) {
    return DataLoss(file.path() + ": no float32 vector '" + name + "'");
  }
  const std::span<const std::byte> bytes = file.Data(*tensor);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

StatusOr<OptimizerState> ReadOptimizer(const SafetensorsFile& file, const std::string& model,
                                       int64_t num_updates) {
  OptimizerState state;
  state.num_updates = num_updates;
  ROLLCALL_ASSIGN_OR_RETURN(state.first_moment, ReadMoment(file, model + ".first_moment"));
  ROLLCALL_ASSIGN_OR_RETURN(state.second_moment, ReadMoment(file, model + ".second_moment"));
  return state;
}

}  // namespace

Status WriteCheckpoint(const std::string& directory, const CheckpointView& view,
                       const std::string& tokenizer_source) {
  return GuardExceptions("writing checkpoint " + directory, [&]() -> Status {
    return WriteDirectoryAtomic(directory, [&](const std::string& temporary) -> Status {
      ROLLCALL_RETURN_IF_ERROR(WriteModelDirectory(temporary, view.config, Head::kLanguageModel,
                                                   view.policy.parameters));
      ROLLCALL_RETURN_IF_ERROR(CopyTokenizerFiles(tokenizer_source, temporary));
      if (view.critic.has_value()) {
        ROLLCALL_RETURN_IF_ERROR(WriteModelDirectory(CriticDirectory(temporary), view.config,
                                                     Head::kValue, view.critic->parameters));
      }
      ROLLCALL_RETURN_IF_ERROR(WriteOptimizer(temporary, view));
      return WriteState(temporary, view);
    });
  });
}

Status WriteModel(const std::string& directory, const ModelConfig& config,
                  std::span<const float> parameters, const std::string& tokenizer_source) {
  return GuardExceptions("writing model " + directory, [&]() -> Status {
    return WriteDirectoryAtomic(directory, [&](const std::string& temporary) -> Status {
      ROLLCALL_RETURN_IF_ERROR(
          WriteModelDirectory(temporary, config, Head::kLanguageModel, parameters));
      return CopyTokenizerFiles(tokenizer_source, temporary);
    });
  });
}

StatusOr<CheckpointState> ReadCheckpoint(const std::string& directory) {
  return GuardExceptions("reading checkpoint " + directory, [&]() -> StatusOr<CheckpointState> {
    ROLLCALL_ASSIGN_OR_RETURN(const json state, ReadState(directory));
    ROLLCALL_RETURN_IF_ERROR(VerifyFiles(directory, state["files"]));
    CheckpointState result;
    result.job_id = state.value("job_id", std::string());
    result.step = state["step"].get<int64_t>();
    result.seed = state["seed"].get<uint64_t>();
    ROLLCALL_ASSIGN_OR_RETURN(const SafetensorsFile file,
                              SafetensorsFile::Open(directory + "/" + kOptimizerFile));
    ROLLCALL_ASSIGN_OR_RETURN(
        result.policy, ReadOptimizer(file, "policy", state["policy_updates"].get<int64_t>()));
    if (state.contains("critic_updates")) {
      ROLLCALL_ASSIGN_OR_RETURN(
          result.critic, ReadOptimizer(file, "critic", state["critic_updates"].get<int64_t>()));
    }
    return result;
  });
}

std::string CriticDirectory(const std::string& checkpoint_directory) {
  return checkpoint_directory + "/critic";
}

}  // namespace rollcall
