#include "trainer/job_options.h"

#include <utility>

#include "services/common/sampling/sampling_codec.h"

namespace rollcall {
namespace {

KlPlacement PlacementFromProto(v1::KlSpec::Placement placement) {
  switch (placement) {
    case v1::KlSpec::LOSS:
      return KlPlacement::kLoss;
    case v1::KlSpec::REWARD:
      return KlPlacement::kReward;
    default:
      return KlPlacement::kNone;
  }
}

LearningRateShape ShapeFromProto(v1::OptimizerSpec::Schedule schedule) {
  switch (schedule) {
    case v1::OptimizerSpec::LINEAR:
      return LearningRateShape::kLinear;
    case v1::OptimizerSpec::COSINE:
      return LearningRateShape::kCosine;
    default:
      return LearningRateShape::kConstant;
  }
}

AlgorithmOptions AlgorithmFromProto(const v1::AlgorithmSpec& spec) {
  return {.advantage = spec.advantage(),
          .loss = spec.loss(),
          .aggregation = spec.aggregation(),
          .pair_builder = spec.pair_builder(),
          .correction = spec.correction(),
          .whiten_advantages = spec.whiten_advantages(),
          .kl_placement = PlacementFromProto(spec.kl().placement()),
          .kl_estimator = spec.kl().estimator(),
          .kl_coefficient = spec.kl().coefficient(),
          .clip_low = spec.clip_low(),
          .clip_high = spec.clip_high(),
          .correction_cap = spec.correction_cap(),
          .gamma = spec.gamma(),
          .lambda = spec.lambda(),
          .beta = spec.beta(),
          .label_smoothing = spec.label_smoothing(),
          .value_clip = spec.value_clip(),
          .value_coefficient = spec.value_coefficient(),
          .entropy_coefficient = spec.entropy_coefficient()};
}

LearnerOptimizerOptions OptimizerFromProto(const v1::OptimizerSpec& spec, int64_t total_steps) {
  return {.learning_rate = spec.learning_rate(),
          .critic_learning_rate = spec.critic_learning_rate(),
          .adamw = {.beta1 = spec.beta1(),
                    .beta2 = spec.beta2(),
                    .epsilon = spec.epsilon(),
                    .weight_decay = spec.weight_decay()},
          .max_grad_norm = spec.max_grad_norm(),
          .schedule = {.shape = ShapeFromProto(spec.schedule()),
                       .warmup_steps = spec.warmup_steps(),
                       .total_steps = total_steps}};
}

}  // namespace

StatusOr<LearnerOptions> LearnerOptionsFromAssignment(const v1::Assignment& assignment) {
  const v1::JobSpec& spec = assignment.spec();
  const bool sampled = spec.data().kind() == v1::DataSpec::PROMPTS;
  const double temperature = spec.rollout().temperature();
  SamplingLaw law;
  if (sampled && temperature > 0) {
    ROLLCALL_ASSIGN_OR_RETURN(const v1::SamplingParams params, ParamsFromSpec(spec.rollout()));
    law = LawFromParams(params);
  }
  return LearnerOptions{
      .job_id = assignment.job_id(),
      .seed = spec.run().seed(),
      .model_path = spec.model().path(),
      .adapter_path = spec.model().adapter(),
      .precision = spec.model().dtype() == v1::ModelSpec::BFLOAT16 ? Precision::kBFloat16
                                                                   : Precision::kFloat32,
      .checkpoint_dir = assignment.checkpoint_dir(),
      .resume_step = assignment.resume_step(),
      .algorithm = AlgorithmFromProto(spec.algorithm()),
      .optimizer = OptimizerFromProto(spec.optimizer(), spec.train().total_steps()),
      .epochs_per_step = spec.train().epochs_per_step(),
      .minibatches_per_epoch = spec.train().minibatches_per_epoch(),
      .max_tokens_per_microbatch = spec.train().max_tokens_per_microbatch(),
      .critic_warmup_steps = spec.train().critic_warmup_steps(),
      .temperature = sampled && temperature > 0 ? temperature : 1.0,
      .law = std::move(law),
      .max_completion_tokens =
          sampled ? spec.rollout().max_new_tokens() : spec.data().max_completion_tokens()};
}

TransportChoice TransportFromSpec(const v1::JobSpec& spec) {
  switch (spec.sync().transport()) {
    case v1::SyncSpec::SHARED_MEMORY:
      return TransportChoice::kSharedMemory;
    case v1::SyncSpec::GRPC:
      return TransportChoice::kGrpc;
    default:
      return TransportChoice::kAuto;
  }
}

}  // namespace rollcall
