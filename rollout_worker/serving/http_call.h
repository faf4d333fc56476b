// One request for completions over HTTP, from its fields to the last byte of its answer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "rollout_worker/serving/api/api_error.h"
#include "rollout_worker/serving/api/sampling_fields.h"
#include "rollout_worker/serving/choice.h"
#include "rollout_worker/serving/generator.h"
#include "rollout_worker/serving/reply_format.h"
#include "rollout_worker/serving/served_model.h"
#include "services/common/http/exchange.h"

namespace rollcall {

struct HttpCallOptions {
  std::shared_ptr<HttpExchange> exchange;
  std::shared_ptr<const ServedModel> model;
  std::shared_ptr<const ReplyFormat> format;
  SamplingFields sampling;
  std::vector<std::vector<int32_t>> prompts;  // token ids, one list per prompt
  std::vector<std::string> echoes;            // text of each prompt; empty: it is not echoed
  int32_t best_of = 1;
  std::optional<int32_t> num_logprobs;
  std::vector<std::pair<std::string, std::string>> headers;  // of the answer
  absl::Time arrival;
  absl::Time deadline;
  uint64_t fallback_seed = 0;
};

// Lives as long as the generator knows the call. Its methods run on the delivery thread.
class HttpCall final : public GenerationListener {
 public:
  // Checks the request, hands it to the generator and has it aborted when the client goes. The
  // error is what the caller answers; else the call answers by itself.
  static std::optional<ApiError> Start(HttpCallOptions options, Generator& generator);

  explicit HttpCall(HttpCallOptions options);
  void OnTokens(int32_t group, const StreamedTokens& tokens) override;
  void OnSample(int32_t group, const CompletedSample& sample) override;
  void OnFailed(const Status& status) override;

 private:
  // All samples of a prompt have the same place in a row: prompt * best_of + sample.
  size_t Place(int32_t group, int32_t index) const {
    return static_cast<size_t>(group) * static_cast<size_t>(options_.best_of) +
           static_cast<size_t>(index);
  }
  Choice& ChoiceAt(size_t place);
  ApiResult<GenerationCall> MakeCall() const;
  // Entries of the answer that the prompts' log-probabilities take are bounded.
  std::optional<ApiError> CheckPromptLogprobs() const;
  bool echoes_logprobs() const {
    return !options_.echoes.empty() && options_.num_logprobs.has_value();
  }
  int32_t NumPromptTopLogprobs() const;
  // The prompt's log-probabilities came.
  void TakePromptScores(size_t prompt, const PromptScores& scores);
  void Send(const ChoicePiece& piece, size_t prompt);
  void SendText(const std::string& event);
  void BeginStream();
  void Complete();
  void AnswerWhole();
  std::vector<ChoicePiece> BestPieces();
  UsageCounts Usage() const;

  const HttpCallOptions options_;
  std::vector<std::unique_ptr<Choice>> choices_;
  std::vector<ChoicePiece> pieces_;   // whole answers: by place
  std::vector<double> mean_logprob_;  // by place
  std::vector<PromptPart> prompt_parts_;
  std::vector<PromptScores> prompt_scores_;  // by prompt, for the echoes
  size_t num_finished_ = 0;
  size_t num_cached_ = 0;
  bool is_streaming_ = false;  // the stream has begun
  bool is_over_ = false;
};

}  // namespace rollcall
