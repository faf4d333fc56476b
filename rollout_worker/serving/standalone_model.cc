#include "rollout_worker/serving/standalone_model.h"

#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include "rollout_worker/runner/decoder_runner.h"
#include "services/model/weights/architecture.h"
#include "services/model/weights/model_files.h"

namespace rollcall {
namespace {

constexpr ModelId kModelId = 1;

class StandalonePolicy final : public ServedPolicy {
 public:
  explicit StandalonePolicy(std::string job_id) : job_id_(std::move(job_id)) {}
  const std::string& job_id() const override { return job_id_; }
  void Acquire(absl::Time, std::function<void(StatusOr<ModelId>)> done) override { done(kModelId); }
  void Dropped(ModelId) override {}

 private:
  const std::string job_id_;
};

// "models/tiny/" is "tiny".
std::string LastPart(const std::string& directory) {
  const auto path = std::filesystem::path(directory).lexically_normal();
  const std::string name =
      path.filename().empty() ? path.parent_path().filename().string() : path.filename().string();
  return name.empty() || name == "." ? "model" : name;
}

}  // namespace

StatusOr<StandaloneModel> LoadStandaloneModel(const std::string& directory, std::string name,
                                              absl::Time now) {
  if (name.empty()) name = LastPart(directory);
  ROLLCALL_ASSIGN_OR_RETURN(const ModelFiles files, ModelFiles::Open(directory));
  const ModelConfig& config = files.config();
  ROLLCALL_ASSIGN_OR_RETURN(ServedModel served, ReadServedModel(directory, config, name, now));
  served.policy = std::make_shared<StandalonePolicy>(name);

  const auto layout = ArenaLayout(ListParameters(config, Head::kLanguageModel));
  std::vector<float> arena(static_cast<size_t>(ArenaValues(layout)));
  ROLLCALL_RETURN_IF_ERROR(ReadParameters(files, Head::kLanguageModel, arena));
  ROLLCALL_ASSIGN_OR_RETURN(auto runnable,
                            BuildRunnableModel(config, layout, std::as_bytes(std::span(arena))));
  return StandaloneModel{
      .usable = {.job_id = name, .config = config, .id = kModelId, .model = std::move(runnable)},
      .served = std::make_shared<const ServedModel>(std::move(served))};
}

}  // namespace rollcall
