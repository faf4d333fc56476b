#include "tests/support/catch.h"
#include "trainer/batch_codec.h"
#include "trainer/job_options.h"

namespace rollcall {
namespace {

v1::Segment* AddSegment(v1::Experience* experience, v1::SegmentKind kind,
                        std::initializer_list<int32_t> ids) {
  v1::Segment* segment = experience->mutable_trajectory()->add_segments();
  segment->set_kind(kind);
  for (const int32_t id : ids) {
    segment->add_token_ids(id);
    if (kind == v1::SEGMENT_KIND_POLICY) segment->add_behavior_logprobs(-0.5F * id);
  }
  return segment;
}

v1::Experience* AddExperience(v1::Batch* batch) {
  v1::Experience* experience = batch->add_groups()->add_experiences();
  v1::Trajectory* trajectory = experience->mutable_trajectory();
  trajectory->mutable_key()->set_prompt_id(42);
  trajectory->mutable_key()->set_sample_index(3);
  trajectory->add_prompt_token_ids(1);
  trajectory->add_prompt_token_ids(2);
  experience->set_preference_rank(-1);
  return experience;
}

LearnerOptions OptionsOf(const v1::Assignment& assignment) {
  REQUIRE_OK_AND_ASSIGN(LearnerOptions options, LearnerOptionsFromAssignment(assignment));
  return options;
}

TEST_CASE("Batch: sampled tokens train, observations do not", "[unit][trainer]") {
  v1::Batch proto;
  proto.set_step(5);
  proto.set_num_groups(1);
  proto.set_max_staleness(2);
  v1::Experience* experience = AddExperience(&proto);
  AddSegment(experience, v1::SEGMENT_KIND_POLICY, {4, 6});
  AddSegment(experience, v1::SEGMENT_KIND_OBSERVATION, {9});
  AddSegment(experience, v1::SEGMENT_KIND_POLICY, {8});
  experience->set_reward(0.25);
  experience->mutable_trajectory()->set_finish_reason(v1::FINISH_REASON_LENGTH);
  REQUIRE_OK_AND_ASSIGN(const TrainBatch batch, BatchFromProto(proto));
  CHECK(batch.step == 5);
  CHECK(batch.max_staleness == 2);
  const TrainSequence& sequence = batch.groups.at(0).sequences.at(0);
  CHECK(sequence.prompt_id == 42);
  CHECK(sequence.sample_index == 3);
  CHECK(sequence.token_ids == std::vector<int32_t>{1, 2, 4, 6, 9, 8});
  CHECK(sequence.trains == std::vector<uint8_t>{0, 0, 1, 1, 0, 1});
  CHECK(sequence.behavior_logprobs == std::vector<float>{0, 0, -2, -3, 0, -4});
  CHECK(sequence.reward == 0.25);
  CHECK(sequence.truncated);
  CHECK(sequence.sampled());
}

TEST_CASE("Batch: policy segments that follow each other are one run", "[unit][trainer]") {
  v1::Batch proto;
  v1::Experience* experience = AddExperience(&proto);
  AddSegment(experience, v1::SEGMENT_KIND_POLICY, {4, 6})->set_kept_sets("abc");
  v1::Segment* second = AddSegment(experience, v1::SEGMENT_KIND_POLICY, {8});
  AddSegment(experience, v1::SEGMENT_KIND_OBSERVATION, {9});
  AddSegment(experience, v1::SEGMENT_KIND_POLICY, {3, 5});
  REQUIRE_OK_AND_ASSIGN(const TrainBatch batch, BatchFromProto(proto));
  const std::vector<SampledRun>& runs = batch.groups.at(0).sequences.at(0).runs;
  REQUIRE(runs.size() == 2);
  CHECK(runs[0].begin == 2);
  CHECK(runs[0].end == 5);
  CHECK(runs[0].kept_sets == "abc");
  CHECK(runs[1].begin == 6);
  CHECK(runs[1].end == 8);
  CHECK(runs[1].kept_sets.empty());
  second->set_kept_sets("d");
  CHECK(BatchFromProto(proto).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Batch: data set rows have no behaviour and no reward", "[unit][trainer]") {
  v1::Batch proto;
  v1::Experience* experience = AddExperience(&proto);
  AddSegment(experience, v1::SEGMENT_KIND_DATASET, {7, 2});
  experience->set_preference_rank(1);
  REQUIRE_OK_AND_ASSIGN(const TrainBatch batch, BatchFromProto(proto));
  const TrainSequence& sequence = batch.groups.at(0).sequences.at(0);
  CHECK_FALSE(sequence.sampled());
  CHECK_FALSE(sequence.reward.has_value());
  CHECK(sequence.preference_rank == 1);
  CHECK(sequence.trains == std::vector<uint8_t>{0, 0, 1, 1});
}

TEST_CASE("Batch: a reward of zero is a reward", "[unit][trainer]") {
  v1::Batch proto;
  AddExperience(&proto)->set_reward(0);
  REQUIRE_OK_AND_ASSIGN(const TrainBatch batch, BatchFromProto(proto));
  CHECK(batch.groups.at(0).sequences.at(0).reward == 0.0);
}

TEST_CASE("Batch: what does not fit together is refused with prompt and sample",
          "[unit][trainer]") {
  const auto refused = [](const v1::Batch& proto, const std::string& why) {
    const Status status = BatchFromProto(proto).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK_THAT(Message(status), Catch::Contains("prompt 42, sample 3") && Catch::Contains(why));
  };
  v1::Batch missing;
  AddSegment(AddExperience(&missing), v1::SEGMENT_KIND_POLICY, {4, 6})
      ->mutable_behavior_logprobs()
      ->RemoveLast();
  refused(missing, "1 behaviour log-probabilities for 2 tokens");
  v1::Batch mixed;
  v1::Experience* experience = AddExperience(&mixed);
  AddSegment(experience, v1::SEGMENT_KIND_POLICY, {4});
  AddSegment(experience, v1::SEGMENT_KIND_DATASET, {4});
  refused(mixed, "mixes");
  v1::Batch unknown;
  AddSegment(AddExperience(&unknown), v1::SEGMENT_KIND_UNSPECIFIED, {4});
  refused(unknown, "unknown kind");
}

TEST_CASE("Options: the temperature of the sampler, 1 where nothing was sampled by it",
          "[unit][trainer]") {
  v1::Assignment assignment;
  v1::JobSpec& spec = *assignment.mutable_spec();
  spec.mutable_data()->set_kind(v1::DataSpec::PROMPTS);
  spec.mutable_data()->set_max_completion_tokens(20);
  spec.mutable_rollout()->set_temperature(0.7);
  spec.mutable_rollout()->set_max_new_tokens(30);
  CHECK(OptionsOf(assignment).temperature == 0.7);
  CHECK(OptionsOf(assignment).max_completion_tokens == 30);
  spec.mutable_rollout()->set_temperature(0);
  CHECK(OptionsOf(assignment).temperature == 1.0);
  spec.mutable_rollout()->set_temperature(0.7);
  spec.mutable_data()->set_kind(v1::DataSpec::PAIRS);
  CHECK(OptionsOf(assignment).temperature == 1.0);
  CHECK(OptionsOf(assignment).max_completion_tokens == 20);
}

TEST_CASE("Options: every factor and setting arrives", "[unit][trainer]") {
  v1::Assignment assignment;
  assignment.set_job_id("job-7");
  assignment.set_resume_step(40);
  assignment.set_checkpoint_dir("run/checkpoints/step_40");
  v1::JobSpec& spec = *assignment.mutable_spec();
  spec.mutable_run()->set_seed(99);
  spec.mutable_model()->set_path("model");
  spec.mutable_model()->set_adapter("adapter");
  v1::AlgorithmSpec& algorithm = *spec.mutable_algorithm();
  algorithm.set_advantage("gae");
  algorithm.set_loss("ppo_clip");
  algorithm.set_aggregation("token_mean");
  algorithm.set_pair_builder("none");
  algorithm.set_correction("token_mask");
  algorithm.set_whiten_advantages(true);
  algorithm.mutable_kl()->set_placement(v1::KlSpec::REWARD);
  algorithm.mutable_kl()->set_estimator("k1");
  algorithm.mutable_kl()->set_coefficient(0.02);
  algorithm.set_clip_high(0.28);
  algorithm.set_lambda(0.9);
  v1::OptimizerSpec& optimizer = *spec.mutable_optimizer();
  optimizer.set_learning_rate(1e-4);
  optimizer.set_critic_learning_rate(2e-4);
  optimizer.set_weight_decay(0.1);
  optimizer.set_schedule(v1::OptimizerSpec::COSINE);
  optimizer.set_warmup_steps(3);
  spec.mutable_train()->set_total_steps(50);
  spec.mutable_train()->set_epochs_per_step(2);
  spec.mutable_train()->set_minibatches_per_epoch(4);
  spec.mutable_train()->set_critic_warmup_steps(5);
  spec.mutable_sync()->set_transport(v1::SyncSpec::GRPC);
  CHECK(OptionsOf(assignment).precision == Precision::kFloat32);
  spec.mutable_model()->set_dtype(v1::ModelSpec::BFLOAT16);

  const LearnerOptions options = OptionsOf(assignment);
  CHECK(options.job_id == "job-7");
  CHECK(options.seed == 99);
  CHECK(options.model_path == "model");
  CHECK(options.adapter_path == "adapter");
  CHECK(options.precision == Precision::kBFloat16);
  CHECK(options.checkpoint_dir == "run/checkpoints/step_40");
  CHECK(options.resume_step == 40);
  CHECK(options.algorithm.advantage == "gae");
  CHECK(options.algorithm.correction == "token_mask");
  CHECK(options.algorithm.whiten_advantages);
  CHECK(options.algorithm.kl_placement == KlPlacement::kReward);
  CHECK(options.algorithm.kl_coefficient == 0.02);
  CHECK(options.algorithm.clip_high == 0.28);
  CHECK(options.algorithm.lambda == 0.9);
  CHECK(options.optimizer.learning_rate == 1e-4);
  CHECK(options.optimizer.critic_learning_rate == 2e-4);
  CHECK(options.optimizer.adamw.weight_decay == 0.1);
  CHECK(options.optimizer.schedule.shape == LearningRateShape::kCosine);
  CHECK(options.optimizer.schedule.warmup_steps == 3);
  CHECK(options.optimizer.schedule.total_steps == 50);
  CHECK(options.epochs_per_step == 2);
  CHECK(options.minibatches_per_epoch == 4);
  CHECK(options.critic_warmup_steps == 5);
  CHECK(TransportFromSpec(spec) == TransportChoice::kGrpc);
}

}  // namespace
}  // namespace rollcall
