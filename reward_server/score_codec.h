// Protobuf <-> the plain types of scoring.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "reward_server/scoring/composition.h"
#include "reward_server/scoring/types.h"
#include "rollcall/v1/sample.pb.h"
#include "services/base/status/status.h"
#include "services/common/text/tokenizer.h"

namespace rollcall {

// The texts of a trajectory: tokens of the policy make the completion, without special tokens.
// `answer` is read from `answer_column` of the row, see RowAnswer. Data failures: "bad_tokens" (an
// id outside the vocabulary), "bad_row" (not a JSON object), "bad_ground_truth" (the field holds
// neither a text nor a number).
struct ScoreInputOr {
  ScoreInput input;
  bool ok = false;
  ScoreFailure failure;  // when not ok
};
ScoreInputOr MakeScoreInput(const v1::Trajectory& trajectory, const std::string& row_json,
                            const std::string& answer_column, const Tokenizer& tokenizer);

// The score with all components; the text is cut to 4 KiB at a character.
v1::Score MakeScore(const v1::SampleKey& key, const ScoreResult& reward,
                    std::span<const Component> components, std::string_view completion);

}  // namespace rollcall
