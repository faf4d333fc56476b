#include "reward_server/score_codec.h"

#include <utility>
#include <vector>

#include "services/common/data/row_json.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

constexpr size_t kMaxCompletionTextBytes = 4 << 10;
constexpr size_t kMaxFailureMessageBytes = 1 << 10;

ScoreInputOr Failed(std::string reason, const Status& status) {
  ScoreInputOr failed;
  failed.failure = {FailureKind::kData, std::move(reason), Message(status)};
  return failed;
}

v1::Failure ToProto(const ScoreFailure& failure) {
  v1::Failure proto;
  proto.set_kind(failure.kind == FailureKind::kData ? v1::Failure::KIND_DATA
                                                    : v1::Failure::KIND_INFRASTRUCTURE);
  proto.set_reason(failure.reason);
  // A message may quote what somebody else sent; protobuf strings must be UTF-8.
  proto.set_message(ReplaceInvalidUtf8(TruncateUtf8(failure.message, kMaxFailureMessageBytes)));
  return proto;
}

}  // namespace

ScoreInputOr MakeScoreInput(const v1::Trajectory& trajectory, const std::string& row_json,
                            const std::string& answer_column, const Tokenizer& tokenizer) {
  ScoreInputOr made;
  ScoreInput& input = made.input;
  input.row_json = row_json;
  input.prompt_token_ids.assign(trajectory.prompt_token_ids().begin(),
                                trajectory.prompt_token_ids().end());
  for (const v1::Segment& segment : trajectory.segments()) {
    if (segment.kind() != v1::SEGMENT_KIND_POLICY) continue;
    input.completion_token_ids.insert(input.completion_token_ids.end(), segment.token_ids().begin(),
                                      segment.token_ids().end());
  }
  StatusOr<std::string> prompt =
      tokenizer.Decode(input.prompt_token_ids, Tokenizer::Skip::kNothing);
  if (!prompt.ok()) return Failed("bad_tokens", Annotate(prompt.status(), "prompt"));
  input.prompt = *std::move(prompt);
  StatusOr<std::string> completion =
      tokenizer.Decode(input.completion_token_ids, Tokenizer::Skip::kSpecial);
  if (!completion.ok()) return Failed("bad_tokens", Annotate(completion.status(), "completion"));
  input.completion = *std::move(completion);

  StatusOr<std::string> answer = RowAnswer(row_json, answer_column);
  if (answer.ok()) {
    input.answer = *std::move(answer);
  } else if (answer.status().code() != StatusCode::kNotFound) {
    const bool is_field = Message(answer.status()).starts_with("field");
    return Failed(is_field ? "bad_ground_truth" : "bad_row", answer.status());
  }
  made.ok = true;
  return made;
}

v1::Score MakeScore(const v1::SampleKey& key, const ScoreResult& reward,
                    std::span<const Component> components, std::string_view completion) {
  v1::Score score;
  *score.mutable_key() = key;
  if (reward.ok()) {
    score.set_reward(reward.value());
  } else {
    *score.mutable_failure() = ToProto(reward.failure());
  }
  for (const Component& component : components) {
    v1::ComponentScore* proto = score.add_components();
    proto->set_name(component.name);
    if (component.result.ok()) {
      proto->set_value(component.result.value());
    } else {
      *proto->mutable_failure() = ToProto(component.result.failure());
    }
  }
  score.set_completion_text(std::string(TruncateUtf8(completion, kMaxCompletionTextBytes)));
  return score;
}

}  // namespace rollcall
