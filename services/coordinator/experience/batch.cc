#include "services/coordinator/experience/batch.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "services/coordinator/experience/staleness.h"

namespace rollcall::coordinator {
namespace {

// Wire overhead of a repeated message field: tag and length.
constexpr uint64_t kFieldOverheadBytes = 6;

void AddStatistics(FormedBatch& batch) {
  double reward_sum = 0;
  double reward_square_sum = 0;
  int64_t num_rewards = 0;
  double token_sum = 0;
  double staleness_sum = 0;
  int64_t num_truncated = 0;
  for (const auto& group : batch.groups) {
    batch.size_bytes += group->ByteSizeLong() + kFieldOverheadBytes;
    for (const v1::Experience& experience : group->experiences()) {
      const v1::Trajectory& trajectory = experience.trajectory();
      ++batch.num_samples;
      if (experience.has_reward()) {
        ++num_rewards;
        reward_sum += experience.reward();
        reward_square_sum += experience.reward() * experience.reward();
      }
      for (const v1::Segment& segment : trajectory.segments()) {
        if (segment.kind() != v1::SEGMENT_KIND_OBSERVATION) token_sum += segment.token_ids_size();
      }
      const int64_t staleness = Staleness(trajectory);
      staleness_sum += static_cast<double>(staleness);
      batch.max_staleness = std::max(batch.max_staleness, staleness);
      if (trajectory.finish_reason() == v1::FINISH_REASON_LENGTH) ++num_truncated;
    }
  }
  const auto n = static_cast<double>(std::max<int64_t>(1, batch.num_samples));
  batch.metrics["samples"] = static_cast<double>(batch.num_samples);
  batch.metrics["groups"] = static_cast<double>(batch.groups.size());
  batch.metrics["completion_length_mean"] = token_sum / n;
  if (num_rewards == 0) return;
  const double mean = reward_sum / static_cast<double>(num_rewards);
  const double variance =
      std::max(0.0, reward_square_sum / static_cast<double>(num_rewards) - mean * mean);
  batch.metrics["reward_mean"] = mean;
  batch.metrics["reward_std"] = std::sqrt(variance);
  batch.metrics["truncated_share"] = static_cast<double>(num_truncated) / n;
  batch.metrics["staleness_mean"] = staleness_sum / n;
  batch.metrics["staleness_max"] = static_cast<double>(batch.max_staleness);
}

}  // namespace

FormedBatch FormBatch(const SampleBoard& board) {
  FormedBatch batch;
  batch.step = board.iteration() + 1;
  for (const PromptSlot& slot : board.prompts()) {
    auto group = std::make_shared<v1::PromptGroup>();
    group->set_iteration(board.iteration());
    group->set_prompt_id(slot.prompt_id);
    for (const Sample& sample : slot.samples) {
      if (sample.state != v1::SAMPLE_STATE_SCORED) continue;
      v1::Experience& experience = *group->add_experiences();
      *experience.mutable_trajectory() = *sample.trajectory;
      experience.set_reward(sample.score->reward());
      experience.set_preference_rank(-1);
    }
    if (group->experiences_size() > 0) batch.groups.push_back(std::move(group));
  }
  AddStatistics(batch);
  batch.metrics["failed"] = static_cast<double>(board.num_failed());
  return batch;
}

FormedBatch FormBatch(int64_t step, std::vector<std::shared_ptr<const v1::PromptGroup>> groups) {
  FormedBatch batch;
  batch.step = step;
  batch.groups = std::move(groups);
  AddStatistics(batch);
  return batch;
}

FormedBatch RebuildBatch(int64_t step, const std::vector<StoredSample>& samples,
                         const std::vector<int64_t>& prompt_order) {
  std::map<int64_t, std::shared_ptr<v1::PromptGroup>> group_of_prompt;
  int64_t num_failed = 0;
  for (const StoredSample& sample : samples) {
    if (sample.state == v1::SAMPLE_STATE_FAILED) ++num_failed;
    if (sample.step != step || sample.trajectory == nullptr) continue;
    auto& group = group_of_prompt[sample.id.prompt_id];
    if (group == nullptr) {
      group = std::make_shared<v1::PromptGroup>();
      group->set_iteration(sample.id.iteration);
      group->set_prompt_id(sample.id.prompt_id);
    }
    // The journal returns the samples of a prompt in order of their index.
    v1::Experience& experience = *group->add_experiences();
    *experience.mutable_trajectory() = *sample.trajectory;
    if (sample.score != nullptr && !sample.score->has_failure()) {
      experience.set_reward(sample.score->reward());
    }
    experience.set_preference_rank(sample.preference_rank);
  }
  FormedBatch batch;
  batch.step = step;
  for (const int64_t prompt_id : prompt_order) {
    const auto found = group_of_prompt.find(prompt_id);
    if (found != group_of_prompt.end()) batch.groups.push_back(found->second);
  }
  AddStatistics(batch);
  if (num_failed > 0 || batch.metrics.contains("reward_mean")) {
    batch.metrics["failed"] = static_cast<double>(num_failed);
  }
  return batch;
}

v1::Batch BatchOfRank(const FormedBatch& batch, int32_t rank, int32_t world_size) {
  v1::Batch part;
  part.set_step(batch.step);
  part.set_num_groups(static_cast<int64_t>(batch.groups.size()));
  part.set_num_samples(batch.num_samples);
  part.set_max_staleness(batch.max_staleness);
  for (size_t i = static_cast<size_t>(rank); i < batch.groups.size();
       i += static_cast<size_t>(world_size)) {
    *part.add_groups() = *batch.groups[i];
  }
  return part;
}

uint64_t LargestPartBytes(const FormedBatch& batch, int32_t world_size) {
  std::vector<uint64_t> parts(static_cast<size_t>(world_size), 0);
  for (size_t i = 0; i < batch.groups.size(); ++i) {
    parts[i % parts.size()] += batch.groups[i]->ByteSizeLong() + kFieldOverheadBytes;
  }
  return *std::max_element(parts.begin(), parts.end());
}

}  // namespace rollcall::coordinator
