#include "rollout_worker/serving/api/api_error.h"

#include <nlohmann/json.hpp>

namespace rollcall {
namespace {

// Seconds; the queue moves with every sequence that ends.
constexpr const char* kRetryAfter = "1";

}  // namespace

ApiError BadField(std::string param, std::string message) {
  return {.message = std::move(message), .param = std::move(param)};
}

ApiError ToApiError(const Status& status) {
  ApiError error{.message = Message(status)};
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kOutOfRange:
      break;
    case StatusCode::kNotFound:
      error.status = 404;
      error.type = "not_found_error";
      break;
    case StatusCode::kResourceExhausted:
      error.status = 429;
      error.type = "rate_limit_error";
      error.code = "overloaded";
      break;
    case StatusCode::kUnavailable:
    case StatusCode::kFailedPrecondition:
      error.status = 503;
      error.type = "service_unavailable_error";
      break;
    case StatusCode::kDeadlineExceeded:
      error.status = 504;
      error.type = "timeout_error";
      break;
    case StatusCode::kUnimplemented:
      error.status = 501;
      break;
    default:
      error.status = 500;
      error.type = "internal_error";
  }
  return error;
}

std::string ErrorJson(const ApiError& error) {
  nlohmann::ordered_json body;
  body["message"] = error.message;
  body["type"] = error.type;
  body["param"] = nullptr;
  if (!error.param.empty()) body["param"] = error.param;
  body["code"] = error.status;
  if (!error.code.empty()) body["code"] = error.code;
  const nlohmann::ordered_json whole = {{"error", body}};
  return whole.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = ErrorJson(error)};
  if (error.status == 429 || error.status == 503) {
    response.headers.emplace_back("Retry-After", kRetryAfter);
  }
  return response;
}

}  // namespace rollcall
