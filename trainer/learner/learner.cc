#include "trainer/learner/learner.h"

#include <optional>
#include <utility>

#include <ATen/Parallel.h>

#include "services/model/adapter/lora_adapter.h"
#include "services/model/parallel/communicator.h"
#include "services/model/weights/model_weights.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/distributed/group.h"
#include "trainer/learner/method.h"
#include "trainer/learner/reference_cache.h"
#include "trainer/learner/train_step.h"
#include "trainer/learner/trained_model.h"

namespace rollcall {
namespace {

constexpr int64_t kReferenceCacheTokens = int64_t{1} << 23;  // 64 MiB

// Everything that is loaded from disk.
struct LoadedModels {
  Method method;
  TrainedModel policy;
  std::optional<TrainedModel> critic;
  std::optional<ModelWeights> reference;
};

StatusOr<std::optional<TrainedModel>> LoadCritic(const LearnerOptions& options,
                                                 const ModelWeights& policy,
                                                 std::optional<OptimizerState> state) {
  if (options.checkpoint_dir.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(ModelWeights weights, MakeCritic(policy, Gradients::kAccumulate));
    ROLLCALL_ASSIGN_OR_RETURN(
        TrainedModel critic,
        TrainedModel::Make(std::move(weights), options.optimizer.adamw, std::nullopt));
    return std::optional<TrainedModel>(std::move(critic));
  }
  if (!state.has_value()) {
    return DataLoss("checkpoint " + options.checkpoint_dir + " has no critic, but advantage " +
                    options.algorithm.advantage + " needs one");
  }
  ROLLCALL_ASSIGN_OR_RETURN(
      ModelWeights weights,
      LoadWeights(CriticDirectory(options.checkpoint_dir), Head::kValue, Gradients::kAccumulate));
  weights.config.precision = options.precision;
  ROLLCALL_ASSIGN_OR_RETURN(
      TrainedModel critic,
      TrainedModel::Make(std::move(weights), options.optimizer.adamw, std::move(state)));
  return std::optional<TrainedModel>(std::move(critic));
}

// The model of the job before its first step.
StatusOr<ModelWeights> LoadInitialModel(const LearnerOptions& options, Gradients gradients) {
  ROLLCALL_ASSIGN_OR_RETURN(ModelWeights weights,
                            LoadWeights(options.model_path, Head::kLanguageModel, gradients));
  if (!options.adapter_path.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(const LoraAdapter adapter,
                              ReadAdapter(options.adapter_path, weights.config, weights.head));
    ROLLCALL_RETURN_IF_ERROR(MergeAdapter(adapter, &weights));
  }
  weights.config.precision = options.precision;
  return weights;
}

StatusOr<LoadedModels> LoadModels(const LearnerOptions& options) {
  ROLLCALL_ASSIGN_OR_RETURN(const Method method, ResolveMethod(options.algorithm));
  if (!(options.temperature > 0)) {
    return InvalidArgument("the temperature of log-probabilities must be above 0");
  }
  std::optional<CheckpointState> state;
  if (!options.checkpoint_dir.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(state, ReadCheckpoint(options.checkpoint_dir));
    if (state->step != options.resume_step) {
      return DataLoss("checkpoint " + options.checkpoint_dir + " is of step " +
                      std::to_string(state->step) + ", not " + std::to_string(options.resume_step));
    }
  }
  ROLLCALL_ASSIGN_OR_RETURN(
      ModelWeights weights,
      state ? LoadWeights(options.checkpoint_dir, Head::kLanguageModel, Gradients::kAccumulate)
            : LoadInitialModel(options, Gradients::kAccumulate));
  weights.config.precision = options.precision;
  std::optional<TrainedModel> critic;
  if (method.needs_critic()) {
    ROLLCALL_ASSIGN_OR_RETURN(
        critic, LoadCritic(options, weights, state ? std::move(state->critic) : std::nullopt));
  }
  std::optional<ModelWeights> reference;
  if (method.needs_reference()) {
    ROLLCALL_ASSIGN_OR_RETURN(reference, LoadInitialModel(options, Gradients::kNone));
    if (reference->arena.numel() != weights.arena.numel()) {
      return DataLoss("checkpoint " + options.checkpoint_dir + " and the initial model " +
                      options.model_path + " differ in size");
    }
  }
  std::optional<OptimizerState> moments;
  if (state) moments = std::move(state->policy);
  ROLLCALL_ASSIGN_OR_RETURN(
      TrainedModel policy,
      TrainedModel::Make(std::move(weights), options.optimizer.adamw, std::move(moments)));
  return LoadedModels{.method = method,
                      .policy = std::move(policy),
                      .critic = std::move(critic),
                      .reference = std::move(reference)};
}

class LearnerImpl final : public Learner {
 public:
  LearnerImpl(const LearnerOptions& options, LoadedModels models,
              std::unique_ptr<Communicator> communicator, const Clock& clock, LearnerEvents events)
      : options_(options),
        models_(std::move(models)),
        communicator_(*communicator),
        group_(std::move(communicator)),
        clock_(clock),
        events_(std::move(events)),
        step_(options.resume_step) {}

  StatusOr<StepReport> Update(const TrainBatch& batch) override {
    return GuardExceptions("learner update", [&]() -> StatusOr<StepReport> {
      if (batch.step != step_ + 1) {
        return InvalidArgument("batch of step " + std::to_string(batch.step) + " after step " +
                               std::to_string(step_));
      }
      TrainStep step({.options = options_,
                      .method = models_.method,
                      .clock = clock_,
                      .events = events_,
                      .group = group_,
                      .policy = models_.policy,
                      .critic = models_.critic ? &*models_.critic : nullptr,
                      .reference = models_.reference ? &*models_.reference : nullptr,
                      .reference_cache = reference_cache_},
                     batch);
      ROLLCALL_ASSIGN_OR_RETURN(StepReport report, step.Run());
      step_ = batch.step;
      return report;
    });
  }

  int64_t step() const override { return step_; }
  const std::vector<TensorLayout>& layout() const override {
    return models_.policy.weights().layout;
  }

  StatusOr<std::vector<std::byte>> Snapshot() const override {
    return GuardExceptions("snapshot", [&]() -> StatusOr<std::vector<std::byte>> {
      std::vector<std::byte> bytes(models_.policy.parameters().size_bytes());
      ROLLCALL_RETURN_IF_ERROR(CopyArenaTo(models_.policy.weights(), bytes.data(), bytes.size()));
      return bytes;
    });
  }

  Status SaveCheckpoint(const std::string& directory) const override {
    CheckpointView view = {.job_id = options_.job_id,
                           .step = step_,
                           .seed = options_.seed,
                           .config = models_.policy.weights().config,
                           .policy = models_.policy.View(),
                           .critic = std::nullopt};
    if (models_.critic) view.critic = models_.critic->View();
    return WriteCheckpoint(directory, view, options_.model_path);
  }

  Status SaveModel(const std::string& directory) const override {
    return WriteModel(directory, models_.policy.weights().config, models_.policy.parameters(),
                      options_.model_path);
  }

  void Interrupt() override { communicator_.Abort(); }

 private:
  const LearnerOptions options_;
  LoadedModels models_;
  Communicator& communicator_;  // owned by group_
  LearnerGroup group_;
  const Clock& clock_;
  const LearnerEvents events_;
  ReferenceCache reference_cache_{kReferenceCacheTokens};
  int64_t step_;
};

}  // namespace

StatusOr<std::unique_ptr<Learner>> MakeLearner(const LearnerOptions& options,
                                               const CommunicatorFactory& make_communicator,
                                               const Clock& clock, LearnerEvents events) {
  return GuardExceptions("making a learner", [&]() -> StatusOr<std::unique_ptr<Learner>> {
    ROLLCALL_ASSIGN_OR_RETURN(LoadedModels models, LoadModels(options));
    ROLLCALL_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> communicator, make_communicator());
    return std::make_unique<LearnerImpl>(options, std::move(models), std::move(communicator), clock,
                                         std::move(events));
  });
}

void ConfigureLearnerThreads() { at::set_num_threads(1); }

}  // namespace rollcall
