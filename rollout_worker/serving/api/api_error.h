// What goes wrong with a request of the OpenAI-compatible API, and how its answer says it.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "services/base/status/status.h"
#include "services/common/http/message.h"

namespace rollcall {

struct ApiError {
  int status = 400;  // of HTTP
  std::string message;
  std::string type = "invalid_request_error";
  std::string param;  // the field at fault; empty: none
  std::string code;   // a short word for programs; empty: none
};

// A value or an error.
template <typename T>
class ApiResult {
 public:
  ApiResult(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  ApiResult(ApiError error) : value_(std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return value_.index() == 0; }
  const T& operator*() const { return std::get<0>(value_); }
  T& operator*() { return std::get<0>(value_); }
  const T* operator->() const { return &std::get<0>(value_); }
  T* operator->() { return &std::get<0>(value_); }
  const ApiError& error() const { return std::get<1>(value_); }

 private:
  std::variant<T, ApiError> value_;
};

ApiError BadField(std::string param, std::string message);

// The error that fits a status from further down: kInvalidArgument and kOutOfRange 400, kNotFound
// 404, kResourceExhausted 429, kUnavailable and kFailedPrecondition 503, kDeadlineExceeded 504,
// else 500.
ApiError ToApiError(const Status& status);

// {"error": {"message", "type", "param", "code"}}.
std::string ErrorJson(const ApiError& error);
// With Retry-After where trying again helps.
HttpResponse ErrorResponse(const ApiError& error);

}  // namespace rollcall
