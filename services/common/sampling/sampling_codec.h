// The sampling law on the wire and in the job file.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "rollcall/v1/common.pb.h"
#include "rollcall/v1/job.pb.h"
#include "services/base/status/status.h"
#include "services/common/text/tokenizer.h"
#include "services/grammar/automaton.h"
#include "services/grammar/token_grammar.h"
#include "services/model/law/sampling_law.h"

namespace rollcall {

// The law of a request, as it is: CheckSamplingLaw is for the caller. The grammar is not part of
// it.
SamplingLaw LawFromParams(const v1::SamplingParams& params);

// What the job's section says of the law and the length, without stop tokens. The spec is resolved;
// ranges are not checked. kInvalidArgument: a key or value of logit_bias is no number, both
// grammars are given, or half of a KV budget.
StatusOr<v1::SamplingParams> ParamsFromSpec(const v1::RolloutSpec& spec);

// The automaton of a grammar that is set. kInvalidArgument says what is wrong with it.
StatusOr<ByteAutomaton> CompileGrammar(const v1::Grammar& grammar);

// The grammar over a tokenizer's tokens, for a model whose vocabulary may be larger.
StatusOr<std::shared_ptr<const TokenGrammar>> MakeTokenGrammar(
    const v1::Grammar& grammar, const Tokenizer& tokenizer, int64_t vocab_size,
    std::span<const int32_t> stop_token_ids);

// Whether tokens drawn under these come with kept sets.
bool RestrictsTokens(const v1::SamplingParams& params);

}  // namespace rollcall
