// What the bodies of all requests have in common.
#pragma once

#include <string_view>

#include "rollout_worker/serving/api/api_error.h"
#include "services/common/data/row_json.h"

namespace rollcall {

inline constexpr size_t kMaxModelNameBytes = 1024;
inline constexpr size_t kMaxPromptTokens = size_t{1} << 22;

// A JSON object, not nested too deep.
ApiResult<RowJson> ParseBody(std::string_view body);

}  // namespace rollcall
