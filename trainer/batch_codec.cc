#include "trainer/batch_codec.h"

#include <string>
#include <utility>

namespace rollcall {
namespace {

// A policy segment whose first token has this position.
Status AddToRun(const v1::Segment& segment, size_t position, std::vector<SampledRun>* runs) {
  const auto begin = static_cast<int64_t>(position);
  const int64_t end = begin + segment.token_ids_size();
  if (runs->empty() || runs->back().end != begin) {
    runs->push_back({.begin = begin, .end = end, .kept_sets = segment.kept_sets()});
    return OkStatus();
  }
  if (!segment.kept_sets().empty()) {
    return InvalidArgument("the kept sets of a completion are in its first segment");
  }
  runs->back().end = end;
  return OkStatus();
}

StatusOr<TrainSequence> SequenceFromProto(const v1::Experience& experience) {
  const v1::Trajectory& trajectory = experience.trajectory();
  TrainSequence sequence;
  sequence.prompt_id = trajectory.key().prompt_id();
  sequence.sample_index = trajectory.key().sample_index();
  sequence.preference_rank = experience.preference_rank();
  sequence.truncated = trajectory.finish_reason() == v1::FINISH_REASON_LENGTH;
  if (experience.has_reward()) sequence.reward = experience.reward();
  const auto error = [&](const std::string& what) {
    return InvalidArgument("prompt " + std::to_string(sequence.prompt_id) + ", sample " +
                           std::to_string(sequence.sample_index) + ": " + what);
  };

  const auto& prompt = trajectory.prompt_token_ids();
  sequence.token_ids.assign(prompt.begin(), prompt.end());
  sequence.trains.assign(prompt.size(), 0);
  std::vector<float> behavior(prompt.size(), 0.0F);
  bool sampled = false;
  bool from_data = false;
  for (const v1::Segment& segment : trajectory.segments()) {
    const int size = segment.token_ids_size();
    switch (segment.kind()) {
      case v1::SEGMENT_KIND_POLICY:
        sampled = true;
        if (segment.behavior_logprobs_size() != size) {
          return error(std::to_string(segment.behavior_logprobs_size()) +
                       " behaviour log-probabilities for " + std::to_string(size) + " tokens");
        }
        ROLLCALL_RETURN_IF_ERROR(AddToRun(segment, behavior.size(), &sequence.runs));
        behavior.insert(behavior.end(), segment.behavior_logprobs().begin(),
                        segment.behavior_logprobs().end());
        break;
      case v1::SEGMENT_KIND_DATASET:
        from_data = true;
        behavior.insert(behavior.end(), size, 0.0F);
        break;
      case v1::SEGMENT_KIND_OBSERVATION:
        behavior.insert(behavior.end(), size, 0.0F);
        break;
      default:
        return error("a segment is of unknown kind " + std::to_string(segment.kind()));
    }
    sequence.token_ids.insert(sequence.token_ids.end(), segment.token_ids().begin(),
                              segment.token_ids().end());
    sequence.trains.insert(sequence.trains.end(), size,
                           segment.kind() == v1::SEGMENT_KIND_OBSERVATION ? 0 : 1);
  }
  if (sampled && from_data) return error("the trajectory mixes sampled and data set tokens");
  if (!from_data) sequence.behavior_logprobs = std::move(behavior);
  return sequence;
}

}  // namespace

StatusOr<TrainBatch> BatchFromProto(const v1::Batch& proto) {
  TrainBatch batch;
  batch.step = proto.step();
  batch.num_groups = proto.num_groups();
  batch.num_samples = proto.num_samples();
  batch.max_staleness = proto.max_staleness();
  for (const v1::PromptGroup& group : proto.groups()) {
    TrainGroup& out = batch.groups.emplace_back();
    out.prompt_id = group.prompt_id();
    for (const v1::Experience& experience : group.experiences()) {
      ROLLCALL_ASSIGN_OR_RETURN(TrainSequence sequence, SequenceFromProto(experience));
      out.sequences.push_back(std::move(sequence));
    }
  }
  return batch;
}

}  // namespace rollcall
