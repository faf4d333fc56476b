// The samples of one iteration (or one evaluation), from PENDING until all of them are settled.
//
//   PENDING --TakePending--> LEASED --Generated--> GENERATED --TakeForScoring--> SCORING
//      ^------- GiveBack -------'                      ^------ GiveBackScore -------'
//   SCORING|GENERATED --Scored--> SCORED | FAILED     PENDING|LEASED --Failed--> FAILED
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "rollcall/v1/sample.pb.h"
#include "services/coordinator/types.h"

namespace rollcall::coordinator {

struct Sample {
  v1::SampleState state = v1::SAMPLE_STATE_PENDING;
  // Infrastructure failures so far.
  int32_t failures = 0;
  int32_t score_failures = 0;
  // Lease that holds it, while LEASED or SCORING.
  uint64_t lease = 0;
  // Waits out its back-off after a failure: not pending yet.
  bool delayed = false;
  std::shared_ptr<const v1::Trajectory> trajectory;
  std::shared_ptr<const v1::Score> score;

  bool settled() const {
    return state == v1::SAMPLE_STATE_SCORED || state == v1::SAMPLE_STATE_FAILED;
  }
};

struct PromptSlot {
  int64_t prompt_id = 0;
  std::vector<Sample> samples;
};

// Not thread-safe. References to samples stay valid for the life of the board.
class SampleBoard {
 public:
  SampleBoard(JobNumber job, v1::SamplePurpose purpose, int64_t iteration,
              std::span<const int64_t> prompt_ids, int32_t samples_per_prompt);

  // Null when the board has no such sample.
  Sample* Find(const SampleId& id);

  // The first prompt with pending samples and up to `max_samples` of them; they stay PENDING until
  // MarkLeased.
  struct Pick {
    int64_t prompt_id = 0;
    std::vector<int32_t> sample_indices;
  };
  std::optional<Pick> PeekPending(int64_t max_samples) const;
  void MarkLeased(const SampleId& id, uint64_t lease);

  // PENDING or LEASED back to waiting; delayed samples wait for Undelay.
  void GiveBack(const SampleId& id, bool delayed);
  void Undelay(const SampleId& id);
  void MarkGenerated(const SampleId& id, std::shared_ptr<const v1::Trajectory> trajectory);
  // A settled or generated sample starts again.
  void Reset(const SampleId& id);
  // The sample is SCORED or FAILED, as the score says.
  void Settle(const SampleId& id, std::shared_ptr<const v1::Score> score);

  JobNumber job() const { return job_; }
  v1::SamplePurpose purpose() const { return purpose_; }
  int64_t iteration() const { return iteration_; }
  const std::vector<PromptSlot>& prompts() const { return prompts_; }
  // Samples and prompts that a lease could take now.
  int64_t num_pending() const { return num_pending_; }
  int64_t num_pending_prompts() const { return static_cast<int64_t>(pending_prompts_.size()); }
  int64_t num_samples() const { return num_samples_; }
  int64_t num_settled() const { return num_settled_; }
  int64_t num_failed() const { return num_failed_; }
  bool complete() const { return num_settled_ == num_samples_; }

 private:
  size_t SlotOf(int64_t prompt_id) const { return slot_of_prompt_.at(prompt_id); }
  Sample& At(const SampleId& id);
  void AddPending(const SampleId& id);
  void RemovePending(const SampleId& id);

  const JobNumber job_;
  const v1::SamplePurpose purpose_;
  const int64_t iteration_;
  std::vector<PromptSlot> prompts_;
  std::unordered_map<int64_t, size_t> slot_of_prompt_;
  // Slots with pending samples, and how many each has.
  std::set<size_t> pending_prompts_;
  std::vector<int32_t> num_pending_of_slot_;
  int64_t num_pending_ = 0;
  int64_t num_samples_ = 0;
  int64_t num_settled_ = 0;
  int64_t num_failed_ = 0;
};

}  // namespace rollcall::coordinator
