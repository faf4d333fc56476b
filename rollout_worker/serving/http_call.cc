#include "rollout_worker/serving/http_call.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "rollout_worker/serving/group_request.h"

namespace rollcall {
namespace {

// Log-probabilities of prompt tokens in one answer, alternatives counted.
constexpr size_t kMaxPromptLogprobs = size_t{1} << 18;

double MeanLogprob(const SampledTokens& tokens) {
  const auto& logprobs =
      tokens.model_logprobs.empty() ? tokens.behavior_logprobs : tokens.model_logprobs;
  if (logprobs.empty()) return 0;
  return std::accumulate(logprobs.begin(), logprobs.end(), 0.0) /
         static_cast<double>(logprobs.size());
}

}  // namespace

std::optional<ApiError> HttpCall::Start(HttpCallOptions options, Generator& generator) {
  const auto exchange = options.exchange;
  const auto call = std::make_shared<HttpCall>(std::move(options));
  ApiResult<GenerationCall> made = call->MakeCall();
  if (!made.ok()) return made.error();
  made->listener = call;
  const StatusOr<uint64_t> id = generator.Start(*std::move(made));
  if (!id.ok()) return ToApiError(id.status());
  exchange->OnDisconnect([&generator, id = *id] { generator.Abort(id); });
  return std::nullopt;
}

HttpCall::HttpCall(HttpCallOptions options)
    : options_(std::move(options)),
      choices_(options_.prompts.size() * static_cast<size_t>(options_.best_of)),
      pieces_(options_.sampling.is_stream ? 0 : choices_.size()),
      mean_logprob_(choices_.size()),
      prompt_scores_(options_.prompts.size()) {
  for (size_t i = 0; i < options_.prompts.size(); ++i) {
    prompt_parts_.push_back(options_.sampling.return_token_ids
                                ? PromptPart{.token_ids = options_.prompts[i]}
                                : PromptPart{});
  }
}

ApiResult<GenerationCall> HttpCall::MakeCall() const {
  GenerationCall call{
      .model = options_.model, .arrival = options_.arrival, .deadline = options_.deadline};
  if (auto error = CheckPromptLogprobs()) return *std::move(error);
  for (const std::vector<int32_t>& prompt : options_.prompts) {
    ApiResult<GroupRequest> group =
        MakeGroupRequest(*options_.model, options_.sampling, prompt,
                         {.num_samples = options_.best_of,
                          .num_top_logprobs = options_.num_logprobs.value_or(0),
                          .wants_model_logprobs = options_.num_logprobs.has_value() ||
                                                  options_.best_of > options_.sampling.n,
                          .wants_prompt_logprobs =
                              echoes_logprobs() || options_.sampling.prompt_logprobs.has_value(),
                          .num_prompt_top_logprobs = NumPromptTopLogprobs(),
                          .fallback_seed = options_.fallback_seed});
    if (!group.ok()) return group.error();
    call.groups.push_back(*std::move(group));
  }
  SetGrammar(options_.sampling, &call);
  return call;
}

int32_t HttpCall::NumPromptTopLogprobs() const {
  return std::max(echoes_logprobs() ? *options_.num_logprobs : 0,
                  options_.sampling.prompt_logprobs.value_or(0));
}

std::optional<ApiError> HttpCall::CheckPromptLogprobs() const {
  const bool wants_list = options_.sampling.prompt_logprobs.has_value();
  if (!echoes_logprobs() && !wants_list) return std::nullopt;
  if (options_.sampling.is_stream) {
    return BadField("echo", "'echo' with 'logprobs' cannot be streamed");
  }
  size_t num_tokens = 0;
  for (const std::vector<int32_t>& prompt : options_.prompts) num_tokens += prompt.size();
  const size_t num_entries = num_tokens * static_cast<size_t>(1 + NumPromptTopLogprobs()) *
                             static_cast<size_t>(options_.best_of);
  if (num_entries <= kMaxPromptLogprobs) return std::nullopt;
  return BadField(wants_list ? "prompt_logprobs" : "echo",
                  "the answer would have " + std::to_string(num_entries) +
                      " log-probabilities of prompt tokens, at most " +
                      std::to_string(kMaxPromptLogprobs) +
                      " are possible: ask for fewer alternatives, choices or prompts");
}

Choice& HttpCall::ChoiceAt(size_t place) {
  std::unique_ptr<Choice>& choice = choices_[place];
  if (choice == nullptr) {
    const SamplingFields& sampling = options_.sampling;
    choice = std::make_unique<Choice>(
        ChoiceOptions{.index = static_cast<int32_t>(place),
                      .text = TextOptions(*options_.model, sampling),
                      .stop_token_ids = StopTokens(*options_.model, sampling),
                      .eos_token_ids = options_.model->eos_token_ids,
                      .shows_stop_token = sampling.include_stop_str_in_output,
                      .num_logprobs = options_.num_logprobs,
                      .hides_tokens = sampling.max_tokens == 0});
  }
  return *choice;
}

// --- streams ----------------------------------------------------------------------------------

void HttpCall::BeginStream() {
  if (std::exchange(is_streaming_, true)) return;
  HttpResponse head{.content_type = "text/event-stream; charset=utf-8",
                    .headers = options_.headers};
  head.headers.emplace_back("Cache-Control", "no-cache");
  head.headers.emplace_back("X-Accel-Buffering", "no");
  options_.exchange->StartStream(head);
}

void HttpCall::SendText(const std::string& event) {
  options_.exchange->Write(ServerSentEvent(event));
}

void HttpCall::Send(const ChoicePiece& piece, size_t prompt) {
  std::optional<UsageCounts> usage;
  if (options_.sampling.includes_running_usage) usage = Usage();
  SendText(options_.format->Event(piece, prompt_parts_[prompt], usage));
}

void HttpCall::OnTokens(int32_t group, const StreamedTokens& tokens) {
  if (is_over_ || !options_.sampling.is_stream) return;
  BeginStream();
  const size_t place = Place(group, tokens.index);
  const auto prompt = static_cast<size_t>(group);
  const bool is_first = choices_[place] == nullptr;
  Choice& choice = ChoiceAt(place);
  if (is_first && !options_.echoes.empty()) {
    Send(choice.Echo(options_.echoes[prompt], options_.prompts[prompt]), prompt);
  } else if (is_first && options_.format->has_opening()) {
    Send(choice.Take({}, 0), prompt);
  }
  const ChoicePiece piece = choice.Take(tokens, static_cast<size_t>(tokens.first));
  // Text may be held back while a character or a stop string is not complete.
  const bool tells_tokens = options_.sampling.return_token_ids || options_.sampling.return_behavior;
  if (!piece.text.empty() || !piece.details.empty() || (tells_tokens && !piece.token_ids.empty())) {
    Send(piece, prompt);
  }
}

// --- ends -------------------------------------------------------------------------------------

void HttpCall::OnSample(int32_t group, const CompletedSample& sample) {
  if (is_over_) return;
  if (sample.status.code() == StatusCode::kFailedPrecondition) {
    // What the request asks for, taken together, leaves no token to sample.
    return OnFailed(InvalidArgument(Message(sample.status)));
  }
  if (!sample.status.ok()) return OnFailed(sample.status);
  const size_t place = Place(group, sample.index);
  const auto prompt = static_cast<size_t>(group);
  if (sample.index == 0) {
    num_cached_ += static_cast<size_t>(sample.num_cached_prompt_tokens);
    TakePromptScores(prompt, sample.prompt);
  }
  mean_logprob_[place] = MeanLogprob(sample);
  Choice& choice = ChoiceAt(place);
  if (options_.sampling.is_stream) {
    BeginStream();
    Send(choice.Finish(sample), prompt);
  } else {
    ChoicePiece echo;
    if (!options_.echoes.empty()) {
      echo = choice.Echo(options_.echoes[prompt], options_.prompts[prompt]);
    }
    ChoicePiece piece = choice.Finish(sample);
    piece.text.insert(0, echo.text);
    piece.details.insert(piece.details.begin(), std::make_move_iterator(echo.details.begin()),
                         std::make_move_iterator(echo.details.end()));
    pieces_[place] = std::move(piece);
  }
  if (++num_finished_ == choices_.size()) Complete();
}

void HttpCall::TakePromptScores(size_t prompt, const PromptScores& scores) {
  if (options_.sampling.prompt_logprobs) {
    prompt_parts_[prompt].logprobs =
        PromptLogprobsJson(*options_.model->tokenizer, options_.prompts[prompt], scores,
                           *options_.sampling.prompt_logprobs);
  }
  if (echoes_logprobs()) prompt_scores_[prompt] = scores;
}

void HttpCall::Complete() {
  is_over_ = true;
  if (!options_.sampling.is_stream) return AnswerWhole();
  if (options_.sampling.includes_usage) SendText(options_.format->UsageEvent(Usage()));
  SendText("[DONE]");
  options_.exchange->EndStream();
}

std::vector<ChoicePiece> HttpCall::BestPieces() {
  const auto best_of = static_cast<size_t>(options_.best_of);
  const auto n = static_cast<size_t>(options_.sampling.n);
  if (n == best_of) return std::move(pieces_);
  std::vector<ChoicePiece> best;
  for (size_t begin = 0; begin < pieces_.size(); begin += best_of) {
    std::vector<size_t> order(best_of);
    std::iota(order.begin(), order.end(), begin);
    std::stable_sort(order.begin(), order.end(),
                     [this](size_t a, size_t b) { return mean_logprob_[a] > mean_logprob_[b]; });
    for (size_t i = 0; i < n; ++i) {
      best.push_back(std::move(pieces_[order[i]]));
      best.back().index = static_cast<int32_t>(best.size() - 1);
    }
  }
  return best;
}

void HttpCall::AnswerWhole() {
  for (size_t place = 0; echoes_logprobs() && place < pieces_.size(); ++place) {
    AddPromptScores(*options_.model->tokenizer,
                    prompt_scores_[place / static_cast<size_t>(options_.best_of)],
                    *options_.num_logprobs, &pieces_[place].details);
  }
  const UsageCounts usage = Usage();
  options_.exchange->Respond(
      {.headers = options_.headers,
       .body = options_.format->Whole(BestPieces(), prompt_parts_, options_.sampling.n, usage)});
}

UsageCounts HttpCall::Usage() const {
  UsageCounts usage{.num_cached = num_cached_};
  for (const std::vector<int32_t>& prompt : options_.prompts) usage.num_prompt += prompt.size();
  if (options_.sampling.max_tokens == 0) return usage;
  for (const auto& choice : choices_) {
    if (choice != nullptr) usage.num_completion += choice->num_tokens();
  }
  return usage;
}

void HttpCall::OnFailed(const Status& status) {
  if (std::exchange(is_over_, true)) return;
  ApiError error = ToApiError(status);
  // Everything else of a request was checked before it began.
  if (status.code() == StatusCode::kInvalidArgument) {
    error.param = options_.sampling.constraint.field;
  }
  if (!is_streaming_) {
    HttpResponse response = ErrorResponse(error);
    response.headers.insert(response.headers.end(), options_.headers.begin(),
                            options_.headers.end());
    return options_.exchange->Respond(response);
  }
  if (status.code() == StatusCode::kDeadlineExceeded) {
    // What there is, is kept: the choices end here.
    for (size_t place = 0; place < choices_.size(); ++place) {
      Choice& choice = ChoiceAt(place);
      if (!choice.is_finished()) {
        Send(choice.Abort(), place / static_cast<size_t>(options_.best_of));
      }
    }
    if (options_.sampling.includes_usage) SendText(options_.format->UsageEvent(Usage()));
  } else {
    SendText(ErrorJson(error));
  }
  SendText("[DONE]");
  options_.exchange->EndStream();
}

}  // namespace rollcall
