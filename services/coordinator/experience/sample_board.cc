#include "services/coordinator/experience/sample_board.h"

#include <utility>

#include "services/base/status/status.h"

namespace rollcall::coordinator {

SampleBoard::SampleBoard(JobNumber job, v1::SamplePurpose purpose, int64_t iteration,
                         std::span<const int64_t> prompt_ids, int32_t samples_per_prompt)
    : job_(job), purpose_(purpose), iteration_(iteration) {
  prompts_.reserve(prompt_ids.size());
  for (const int64_t prompt_id : prompt_ids) {
    slot_of_prompt_[prompt_id] = prompts_.size();
    pending_prompts_.insert(prompts_.size());
    PromptSlot& slot = prompts_.emplace_back();
    slot.prompt_id = prompt_id;
    slot.samples.resize(static_cast<size_t>(samples_per_prompt));
  }
  ROLLCALL_CHECK(slot_of_prompt_.size() == prompts_.size(), "an iteration holds a prompt once");
  num_pending_of_slot_.assign(prompts_.size(), samples_per_prompt);
  num_samples_ = static_cast<int64_t>(prompts_.size()) * samples_per_prompt;
  num_pending_ = num_samples_;
}

Sample* SampleBoard::Find(const SampleId& id) {
  const auto slot = slot_of_prompt_.find(id.prompt_id);
  if (slot == slot_of_prompt_.end()) return nullptr;
  std::vector<Sample>& samples = prompts_[slot->second].samples;
  if (id.sample_index < 0 || static_cast<size_t>(id.sample_index) >= samples.size()) return nullptr;
  return &samples[static_cast<size_t>(id.sample_index)];
}

Sample& SampleBoard::At(const SampleId& id) {
  Sample* sample = Find(id);
  ROLLCALL_CHECK(sample != nullptr, "the caller found the sample before");
  return *sample;
}

void SampleBoard::AddPending(const SampleId& id) {
  const size_t slot = SlotOf(id.prompt_id);
  ++num_pending_of_slot_[slot];
  ++num_pending_;
  pending_prompts_.insert(slot);
}

void SampleBoard::RemovePending(const SampleId& id) {
  const size_t slot = SlotOf(id.prompt_id);
  --num_pending_;
  if (--num_pending_of_slot_[slot] == 0) pending_prompts_.erase(slot);
}

std::optional<SampleBoard::Pick> SampleBoard::PeekPending(int64_t max_samples) const {
  if (pending_prompts_.empty()) return std::nullopt;
  const PromptSlot& slot = prompts_[*pending_prompts_.begin()];
  Pick pick;
  pick.prompt_id = slot.prompt_id;
  for (size_t i = 0; i < slot.samples.size(); ++i) {
    if (static_cast<int64_t>(pick.sample_indices.size()) >= max_samples) break;
    const Sample& sample = slot.samples[i];
    if (sample.state == v1::SAMPLE_STATE_PENDING && !sample.delayed) {
      pick.sample_indices.push_back(static_cast<int32_t>(i));
    }
  }
  return pick;
}

void SampleBoard::MarkLeased(const SampleId& id, uint64_t lease) {
  Sample& sample = At(id);
  ROLLCALL_CHECK(sample.state == v1::SAMPLE_STATE_PENDING && !sample.delayed);
  RemovePending(id);
  sample.state = v1::SAMPLE_STATE_LEASED;
  sample.lease = lease;
}

void SampleBoard::GiveBack(const SampleId& id, bool delayed) {
  Sample& sample = At(id);
  ROLLCALL_CHECK(sample.state == v1::SAMPLE_STATE_LEASED ||
                 sample.state == v1::SAMPLE_STATE_PENDING);
  if (sample.state == v1::SAMPLE_STATE_PENDING && !sample.delayed) RemovePending(id);
  sample.state = v1::SAMPLE_STATE_PENDING;
  sample.lease = 0;
  sample.delayed = delayed;
  if (!delayed) AddPending(id);
}

void SampleBoard::Undelay(const SampleId& id) {
  Sample& sample = At(id);
  if (!sample.delayed) return;
  sample.delayed = false;
  if (sample.state == v1::SAMPLE_STATE_PENDING) AddPending(id);
}

void SampleBoard::MarkGenerated(const SampleId& id,
                                std::shared_ptr<const v1::Trajectory> trajectory) {
  Sample& sample = At(id);
  ROLLCALL_CHECK(sample.state == v1::SAMPLE_STATE_LEASED ||
                 sample.state == v1::SAMPLE_STATE_PENDING);
  if (sample.state == v1::SAMPLE_STATE_PENDING && !sample.delayed) RemovePending(id);
  sample.delayed = false;
  sample.state = v1::SAMPLE_STATE_GENERATED;
  sample.lease = 0;
  sample.trajectory = std::move(trajectory);
}

void SampleBoard::Reset(const SampleId& id) {
  Sample& sample = At(id);
  if (sample.settled()) --num_settled_;
  if (sample.state == v1::SAMPLE_STATE_FAILED) --num_failed_;
  if (sample.state == v1::SAMPLE_STATE_PENDING && !sample.delayed) RemovePending(id);
  sample = Sample{};
  AddPending(id);
}

void SampleBoard::Settle(const SampleId& id, std::shared_ptr<const v1::Score> score) {
  Sample& sample = At(id);
  ROLLCALL_CHECK(!sample.settled());
  if (sample.state == v1::SAMPLE_STATE_PENDING && !sample.delayed) RemovePending(id);
  sample.delayed = false;
  sample.lease = 0;
  const bool failed = score->has_failure();
  sample.state = failed ? v1::SAMPLE_STATE_FAILED : v1::SAMPLE_STATE_SCORED;
  sample.score = std::move(score);
  ++num_settled_;
  if (failed) ++num_failed_;
}

}  // namespace rollcall::coordinator
