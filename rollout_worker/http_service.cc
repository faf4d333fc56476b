#include "rollout_worker/http_service.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "rollout_worker/serving/api/chat_request.h"
#include "rollout_worker/serving/api/completion_request.h"
#include "rollout_worker/serving/http_call.h"
#include "rollout_worker/serving/prompt_text.h"

namespace rollcall {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr size_t kMaxNotedFields = 256;

RowJson ModelJson(const ServedModel& model) {
  return {{"id", model.name},
          {"object", "model"},
          {"created", absl::ToUnixSeconds(model.created)},
          {"owned_by", "rollcall"},
          {"root", model.name},
          {"parent", nullptr},
          {"max_model_len", model.config.max_positions}};
}

bool IsRequestId(std::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdBytes &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

// A page of another site can make a browser send anything but this type without asking.
std::optional<ApiError> CheckContentType(const HttpRequest& request) {
  constexpr std::string_view kJson = "application/json";
  if (request.Header("content-type").substr(0, kJson.size()) == kJson) return std::nullopt;
  ApiError error{.status = 415, .message = "send the header 'Content-Type: application/json'"};
  return error;
}

absl::Duration Timeout(const HttpRequest& request, absl::Duration most) {
  const std::string_view text = request.Header("x-request-timeout");
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || !(seconds > 0)) return most;
  return std::min(most, absl::Seconds(seconds));
}

void Fail(const std::shared_ptr<HttpExchange>& exchange, const ApiError& error) {
  exchange->Respond(ErrorResponse(error));
}

}  // namespace

HttpService::HttpService(const HttpServiceOptions& options, Parts parts)
    : options_(options),
      catalog_(parts.catalog),
      generator_(parts.generator),
      metrics_(parts.metrics),
      logger_(parts.logger),
      clock_(parts.clock),
      metrics_text_(std::move(parts.metrics_text)),
      random_(options.seed) {}

HttpRoutes HttpService::Routes() {
  HttpRoutes routes;
  const auto add = [&](const char* method, const char* path, auto handler,
                       HttpAccess access = HttpAccess::kKey) {
    routes.Add(
        {.method = method,
         .pattern = path,
         .handler = [this, handler](const Exchange& exchange) { (this->*handler)(exchange); },
         .access = access});
  };
  add("GET", "/health", &HttpService::Health, HttpAccess::kOpen);
  add("GET", "/ping", &HttpService::Health, HttpAccess::kOpen);
  add("GET", "/v1/models", &HttpService::ListModels);
  add("GET", "/v1/models/{model*}", &HttpService::GetModel);
  add("POST", "/v1/completions", &HttpService::Complete);
  add("POST", "/v1/chat/completions", &HttpService::Chat);
  add("POST", "/tokenize", &HttpService::Tokenize);
  add("POST", "/detokenize", &HttpService::Detokenize);
  routes.Add({.method = "GET",
              .pattern = "/version",
              .handler =
                  [](const Exchange& exchange) {
                    exchange->Respond({.body = Dump({{"version", ROLLCALL_VERSION}})});
                  },
              .access = HttpAccess::kOpen});
  routes.Add({.method = "GET",
              .pattern = "/metrics",
              .handler =
                  [this](const Exchange& exchange) {
                    exchange->Respond({.content_type = "text/plain; version=0.0.4; charset=utf-8",
                                       .body = metrics_text_()});
                  },
              .access = HttpAccess::kOpen});
  return routes;
}

void HttpService::Health(const Exchange& exchange) const {
  if (is_draining_.load()) {
    return Fail(exchange, ToApiError(Unavailable("the service is shutting down")));
  }
  exchange->Respond({.body = Dump({{"status", "ok"}})});
}

void HttpService::ListModels(const Exchange& exchange) const {
  RowJson list = RowJson::array();
  for (const auto& model : catalog_.List()) list.push_back(ModelJson(*model));
  exchange->Respond({.body = Dump({{"object", "list"}, {"data", std::move(list)}})});
}

void HttpService::GetModel(const Exchange& exchange) const {
  const auto model = catalog_.Find(exchange->request().path_values.front());
  if (!model.ok()) return Fail(exchange, ToApiError(model.status()));
  exchange->Respond({.body = Dump(ModelJson(**model))});
}

void HttpService::NoteUnknownFields(const std::vector<std::string>& fields) {
  for (const std::string& field : fields) {
    metrics_.UnknownField();
    {
      MutexLock lock(mu_);
      if (noted_fields_.size() >= kMaxNotedFields || !noted_fields_.insert(field).second) continue;
    }
    // One line for each name, however often it comes.
    logger_.Warning(
        fmt::format("requests have a field that is not known and ignored field={:?}", field));
  }
}

ApiResult<HttpService::Prepared> HttpService::Prepare(
    const HttpRequest& request, const std::string& model, const char* id_prefix,
    const SamplingFields& sampling, const std::vector<std::string>& unknown_fields) {
  const auto found = catalog_.Find(model);
  if (!found.ok()) {
    ApiError error = ToApiError(found.status());
    error.param = "model";
    error.code = "model_not_found";
    return error;
  }
  Prepared prepared{.model = *found, .arrival = clock_.Now()};
  prepared.deadline = prepared.arrival + Timeout(request, options_.request_timeout);
  std::string id(request.Header("x-request-id"));
  {
    MutexLock lock(mu_);
    if (!IsRequestId(id)) id = fmt::format("{:016x}{:016x}", random_.Next(), random_.Next());
    prepared.fallback_seed = random_.Next();
  }
  prepared.headers.emplace_back("X-Request-Id", id);
  if (!unknown_fields.empty()) {
    NoteUnknownFields(unknown_fields);
    prepared.headers.emplace_back("X-Ignored-Fields",
                                  fmt::format("{}", fmt::join(unknown_fields, ", ")));
  }
  prepared.reply = {.id = id_prefix + id,
                    .model = prepared.model->name,
                    .created = absl::ToUnixSeconds(prepared.arrival),
                    .returns_token_ids = sampling.return_token_ids,
                    .returns_behavior = sampling.return_behavior};
  return prepared;
}

void HttpService::Complete(const Exchange& exchange) {
  const HttpRequest& http = exchange->request();
  if (const auto error = CheckContentType(http)) return Fail(exchange, *error);
  ApiResult<CompletionRequest> request = ParseCompletionRequest(http.body);
  if (!request.ok()) return Fail(exchange, request.error());
  ApiResult<Prepared> prepared =
      Prepare(http, request->model, "cmpl-", request->sampling, request->unknown_fields);
  if (!prepared.ok()) return Fail(exchange, prepared.error());
  const ServedModel& model = *prepared->model;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<std::string> echoes;
  for (const PromptInput& prompt : request->prompts) {
    ApiResult<std::vector<int32_t>> tokens = PromptTokens(
        model, prompt, request->adds_special_tokens ? SpecialFrame::kAdded : SpecialFrame::kNone);
    if (!tokens.ok()) return Fail(exchange, tokens.error());
    if (request->is_echo) {
      echoes.push_back(
          prompt.is_tokens
              ? model.tokenizer->Decode(prompt.token_ids, Tokenizer::Skip::kNothing).value_or("")
              : prompt.text);
    }
    prompts.push_back(*std::move(tokens));
  }
  const auto error = HttpCall::Start({.exchange = exchange,
                                      .model = prepared->model,
                                      .format = MakeCompletionFormat(std::move(prepared->reply)),
                                      .sampling = std::move(request->sampling),
                                      .prompts = std::move(prompts),
                                      .echoes = std::move(echoes),
                                      .best_of = request->best_of,
                                      .num_logprobs = request->num_logprobs,
                                      .headers = std::move(prepared->headers),
                                      .arrival = prepared->arrival,
                                      .deadline = prepared->deadline,
                                      .fallback_seed = prepared->fallback_seed},
                                     generator_);
  if (error) Fail(exchange, *error);
}

void HttpService::Chat(const Exchange& exchange) {
  const HttpRequest& http = exchange->request();
  if (const auto error = CheckContentType(http)) return Fail(exchange, *error);
  ApiResult<ChatRequest> request = ParseChatRequest(http.body);
  if (!request.ok()) return Fail(exchange, request.error());
  ApiResult<Prepared> prepared =
      Prepare(http, request->model, "chatcmpl-", request->sampling, request->unknown_fields);
  if (!prepared.ok()) return Fail(exchange, prepared.error());
  const ApiResult<std::string> text = RenderChat(*prepared->model, *request, prepared->arrival);
  if (!text.ok()) return Fail(exchange, text.error());
  ApiResult<std::vector<int32_t>> tokens =
      EncodePrompt(*prepared->model, *text,
                   request->adds_special_tokens ? SpecialFrame::kAdded : SpecialFrame::kNone);
  if (!tokens.ok()) return Fail(exchange, tokens.error());
  const int32_t n = request->sampling.n;
  const auto error = HttpCall::Start({.exchange = exchange,
                                      .model = prepared->model,
                                      .format = MakeChatFormat(std::move(prepared->reply)),
                                      .sampling = std::move(request->sampling),
                                      .prompts = {*std::move(tokens)},
                                      .best_of = n,
                                      .num_logprobs = request->num_logprobs,
                                      .headers = std::move(prepared->headers),
                                      .arrival = prepared->arrival,
                                      .deadline = prepared->deadline,
                                      .fallback_seed = prepared->fallback_seed},
                                     generator_);
  if (error) Fail(exchange, *error);
}

void HttpService::Tokenize(const Exchange& exchange) const {
  const HttpRequest& http = exchange->request();
  if (const auto error = CheckContentType(http)) return Fail(exchange, *error);
  const ApiResult<TokenizeRequest> request = ParseTokenizeRequest(http.body);
  if (!request.ok()) return Fail(exchange, request.error());
  const auto model = catalog_.Find(request->model);
  if (!model.ok()) return Fail(exchange, ToApiError(model.status()));
  std::string text;
  if (request->prompt) {
    text = *request->prompt;
  } else {
    const ApiResult<ChatRequest> chat = ParseChatRequest(http.body);
    if (!chat.ok()) return Fail(exchange, chat.error());
    ApiResult<std::string> rendered = RenderChat(**model, *chat, clock_.Now());
    if (!rendered.ok()) return Fail(exchange, rendered.error());
    text = *std::move(rendered);
  }
  const auto tokens = EncodePrompt(
      **model, text, request->adds_special_tokens ? SpecialFrame::kAdded : SpecialFrame::kNone);
  if (!tokens.ok()) return Fail(exchange, tokens.error());
  RowJson body = {{"count", tokens->size()},
                  {"max_model_len", (*model)->config.max_positions},
                  {"tokens", *tokens}};
  if (request->returns_strings) {
    RowJson strings = RowJson::array();
    for (const int32_t token : *tokens) strings.push_back(TokenText(*(*model)->tokenizer, token));
    body["token_strs"] = std::move(strings);
  }
  exchange->Respond({.body = Dump(body)});
}

void HttpService::Detokenize(const Exchange& exchange) const {
  const HttpRequest& http = exchange->request();
  if (const auto error = CheckContentType(http)) return Fail(exchange, *error);
  const ApiResult<DetokenizeRequest> request = ParseDetokenizeRequest(http.body);
  if (!request.ok()) return Fail(exchange, request.error());
  const auto model = catalog_.Find(request->model);
  if (!model.ok()) return Fail(exchange, ToApiError(model.status()));
  const auto text = (*model)->tokenizer->Decode(request->token_ids, Tokenizer::Skip::kNothing);
  if (!text.ok()) return Fail(exchange, BadField("tokens", Message(text.status())));
  exchange->Respond({.body = Dump({{"prompt", *text}})});
}

}  // namespace rollcall
