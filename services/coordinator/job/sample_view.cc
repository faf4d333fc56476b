#include "services/coordinator/job/sample_view.h"

#include <span>
#include <string>
#include <vector>

namespace rollcall::coordinator {
namespace {

std::string Decode(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  const StatusOr<std::string> text = tokenizer.Decode(ids, Tokenizer::Skip::kNothing);
  return text.ok() ? *text : std::string();
}

bool IsSpecial(const Tokenizer& tokenizer, int32_t id) {
  const StatusOr<std::string> text = tokenizer.Decode({&id, 1}, Tokenizer::Skip::kSpecial);
  return text.ok() && text->empty();
}

}  // namespace

void FillTexts(const Tokenizer* tokenizer, v1::SampleView* view) {
  if (tokenizer == nullptr) return;
  const v1::Trajectory& trajectory = view->trajectory();
  const auto& prompt = trajectory.prompt_token_ids();
  view->set_prompt_text(Decode(*tokenizer, {prompt.data(), static_cast<size_t>(prompt.size())}));
  std::vector<int32_t> completion;
  for (const v1::Segment& segment : trajectory.segments()) {
    completion.insert(completion.end(), segment.token_ids().begin(), segment.token_ids().end());
  }
  // The finish reason says that it ended.
  if (!completion.empty() && IsSpecial(*tokenizer, completion.back())) completion.pop_back();
  view->set_completion_text(Decode(*tokenizer, completion));
}

v1::SampleView MakeSampleView(const StoredSample& sample, const Tokenizer* tokenizer) {
  v1::SampleView view;
  if (sample.trajectory != nullptr) {
    *view.mutable_trajectory() = *sample.trajectory;
  } else {
    *view.mutable_trajectory()->mutable_key() = ToKey(sample.id);
  }
  view.set_state(sample.state);
  view.set_step(sample.step);
  if (sample.score != nullptr) {
    *view.mutable_score() = *sample.score;
    if (sample.score->has_reward()) view.set_reward(sample.score->reward());
  }
  FillTexts(tokenizer, &view);
  return view;
}

}  // namespace rollcall::coordinator
