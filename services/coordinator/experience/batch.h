// The batch of one step: scored groups in prompt order, formed once, handed out as often as asked.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rollcall/v1/learner.pb.h"
#include "rollcall/v1/sample.pb.h"
#include "services/coordinator/experience/sample_board.h"
#include "services/coordinator/journal/sqlite_store.h"

namespace rollcall::coordinator {

struct FormedBatch {
  int64_t step = 0;
  std::vector<std::shared_ptr<const v1::PromptGroup>> groups;
  int64_t num_samples = 0;
  int64_t max_staleness = 0;
  uint64_t size_bytes = 0;
  // reward_mean, reward_std, completion_length_mean, truncated_share, staleness_mean,
  // staleness_max, samples, failed.
  std::map<std::string, double> metrics;
};

// Groups of a complete board: samples that were SCORED, in order of prompt and index; a group with
// none is left out.
FormedBatch FormBatch(const SampleBoard& board);

// The batch of a step from data set rows.
FormedBatch FormBatch(int64_t step, std::vector<std::shared_ptr<const v1::PromptGroup>> groups);

// The same batch again, from the journal. `prompt_order` are the prompts of the iteration.
FormedBatch RebuildBatch(int64_t step, const std::vector<StoredSample>& samples,
                         const std::vector<int64_t>& prompt_order);

// The part of one rank.
v1::Batch BatchOfRank(const FormedBatch& batch, int32_t rank, int32_t world_size);
// Wire size of the largest part.
uint64_t LargestPartBytes(const FormedBatch& batch, int32_t world_size);

}  // namespace rollcall::coordinator
