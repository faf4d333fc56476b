// One training step over one batch: scoring, advantages, updates, report.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "services/base/runtime/clock.h"
#include "services/base/status/status.h"
#include "services/model/weights/model_weights.h"
#include "trainer/batch/aggregation.h"
#include "trainer/distributed/group.h"
#include "trainer/learner/flat_batch.h"
#include "trainer/learner/learner.h"
#include "trainer/learner/method.h"
#include "trainer/learner/reference_cache.h"
#include "trainer/learner/row_laws.h"
#include "trainer/learner/step_metrics.h"
#include "trainer/learner/trained_model.h"

namespace rollcall {

// What a step works with, all borrowed.
struct TrainStepContext {
  const LearnerOptions& options;
  const Method& method;
  const Clock& clock;
  const LearnerEvents& events;
  LearnerGroup& group;
  TrainedModel& policy;
  TrainedModel* critic = nullptr;           // set when the method needs one
  const ModelWeights* reference = nullptr;  // set when the method needs one
  ReferenceCache& reference_cache;
};

// For one call of Run.
class TrainStep {
 public:
  TrainStep(const TrainStepContext& context, const TrainBatch& batch);
  StatusOr<StepReport> Run();

 private:
  // One optimizer update: this rank's units, and counts over all ranks.
  struct Minibatch {
    std::vector<Unit> units;
    GlobalCounts counts;
  };
  using ScoreFn = std::function<StatusOr<std::vector<double>>(const PackedTokens&)>;

  bool trains_policy() const;
  bool one_update() const;
  std::shared_ptr<const RowLaws> LawsOf(const PackedTokens& packed) const {
    return MakeRowLaws(options_.law, flat_, packed);
  }

  // Fills values_T of the given sequences without gradients, micro-batch by micro-batch.
  Status Score(std::string_view phase, std::span<const int64_t> sequences, const ScoreFn& score,
               std::vector<double>* values_T);
  Status ScoreReference(std::span<const int64_t> sequences);
  Status ScoreProx(std::span<const int64_t> sequences);
  Status ScoreValues(std::span<const int64_t> sequences);

  void MakePairs();
  std::vector<int64_t> SequencesToScore() const;
  Status ComputeAdvantages();
  void MakeTokenUnits();
  StatusOr<std::vector<Minibatch>> MakeMinibatches(int64_t epoch);

  Status RunMinibatch(const Minibatch& minibatch);
  Status AccumulateTokens(const Minibatch& minibatch, const PackedTokens& packed);
  Status AccumulatePairs(const Minibatch& minibatch, const PackedTokens& packed);
  Status AccumulateCritic(const Minibatch& minibatch, const PackedTokens& packed);
  StatusOr<double> UpdateModel(std::string_view name, double learning_rate, TrainedModel* model);
  // 1 / denominator of every trainable token of the micro-batch.
  std::vector<double> TokenWeights(const Minibatch& minibatch, const PackedTokens& packed) const;
  // Importance weights of the micro-batch's tokens.
  std::vector<double> Weigh(const PackedTokens& packed, std::span<const double> prox_T);

  void SumBatch();
  void SumMismatch();
  Status CheckFinite(std::string_view metric, double value) const;
  StatusOr<StepReport> Report();

  const TrainStepContext context_;
  const LearnerOptions& options_;
  const Method& method_;
  const TrainBatch& batch_;

  FlatBatch flat_;
  std::vector<std::vector<Unit>> units_per_group_;  // of this rank's groups
  std::vector<uint8_t> keep_S_;
  std::vector<uint8_t> has_prox_S_;
  std::vector<uint8_t> has_reference_S_;
  std::vector<double> prox_T_;       // policy at the start of the step
  std::vector<double> reference_T_;  // frozen reference
  std::vector<double> values_T_;     // critic at the start of the step
  std::vector<double> advantages_T_;
  std::vector<double> returns_T_;
  bool prox_scored_ = false;  // by a pass of its own, before the first update

  SumTable sums_;
  PhaseTimer timer_;
  int32_t num_updates_ = 0;
  int32_t num_skipped_ = 0;
};

}  // namespace rollcall
