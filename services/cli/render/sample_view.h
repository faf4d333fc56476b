// One sample in full, for `rollcall inspect`.
#pragma once

#include <string>
#include <vector>

#include "rollcall/v1/coordinator.pb.h"
#include "services/cli/render/text.h"

namespace rollcall {

// Key, texts, tokens with log-probability, policy versions, score of each scorer, failure.
std::vector<std::string> SampleLines(const v1::SampleView& sample, const TerminalStyle& style);

}  // namespace rollcall
