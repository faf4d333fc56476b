// Status and StatusOr for everything that can fail, with the macros that pass them on.
//
// Codes: kInvalidArgument   the caller's input is wrong, say what would be right
//        kUnavailable       retry this call        kAborted  retry the larger step
//        kFailedPrecondition do not retry until something changes
//        kResourceExhausted queue or quota full
#pragma once

#include <exception>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rollcall {

using absl::Status;
using absl::StatusCode;
using absl::StatusOr;

inline Status OkStatus() { return absl::OkStatus(); }

// Message helpers that take std::string_view: the packaged Abseil has a string_view of its own.
inline Status MakeStatus(StatusCode code, std::string_view message) {
  return Status(code, absl::string_view(message.data(), message.size()));
}
inline Status InvalidArgument(std::string_view m) {
  return MakeStatus(StatusCode::kInvalidArgument, m);
}
inline Status NotFound(std::string_view m) { return MakeStatus(StatusCode::kNotFound, m); }
inline Status AlreadyExists(std::string_view m) {
  return MakeStatus(StatusCode::kAlreadyExists, m);
}
inline Status FailedPrecondition(std::string_view m) {
  return MakeStatus(StatusCode::kFailedPrecondition, m);
}
inline Status ResourceExhausted(std::string_view m) {
  return MakeStatus(StatusCode::kResourceExhausted, m);
}
inline Status Unavailable(std::string_view m) { return MakeStatus(StatusCode::kUnavailable, m); }
inline Status Aborted(std::string_view m) { return MakeStatus(StatusCode::kAborted, m); }
inline Status Cancelled(std::string_view m) { return MakeStatus(StatusCode::kCancelled, m); }
inline Status DeadlineExceeded(std::string_view m) {
  return MakeStatus(StatusCode::kDeadlineExceeded, m);
}
inline Status DataLoss(std::string_view m) { return MakeStatus(StatusCode::kDataLoss, m); }
inline Status Internal(std::string_view m) { return MakeStatus(StatusCode::kInternal, m); }
inline Status Unimplemented(std::string_view m) {
  return MakeStatus(StatusCode::kUnimplemented, m);
}

// The message as std::string.
inline std::string Message(const Status& status) { return std::string(status.message()); }

// The same code with "prefix: " before the message; OK stays OK.
Status Annotate(const Status& status, std::string_view prefix);

// Prints the message and aborts. For broken invariants of our own code only.
[[noreturn]] void CheckFailed(const char* condition, std::string_view message,
                              std::source_location where = std::source_location::current());

// Runs fn() at the edge of a library that throws; an exception becomes kInternal
// (kResourceExhausted for std::bad_alloc) with the exception's text. fn returns Status or
// StatusOr<T>.
Status StatusFromCurrentException(std::string_view what);

template <typename Fn>
auto GuardExceptions(std::string_view what, Fn&& fn) -> decltype(fn()) {
  try {
    return std::forward<Fn>(fn)();
  } catch (...) {
    return StatusFromCurrentException(what);
  }
}

}  // namespace rollcall

#define ROLLCALL_CONCAT_INNER(a, b) a##b
#define ROLLCALL_CONCAT(a, b) ROLLCALL_CONCAT_INNER(a, b)

// Returns the status of `expr` from the enclosing function unless it is OK.
#define ROLLCALL_RETURN_IF_ERROR(expr)                 \
  do {                                                 \
    ::rollcall::Status rollcall_status = (expr);       \
    if (!rollcall_status.ok()) return rollcall_status; \
  } while (false)

// ROLLCALL_ASSIGN_OR_RETURN(auto x, Fallible()); several variables in one template argument list
// need parentheses of their own.
#define ROLLCALL_ASSIGN_OR_RETURN(lhs, expr) \
  ROLLCALL_ASSIGN_OR_RETURN_IMPL(ROLLCALL_CONCAT(rollcall_statusor_, __LINE__), lhs, expr)
#define ROLLCALL_ASSIGN_OR_RETURN_IMPL(statusor, lhs, expr) \
  auto statusor = (expr);                                   \
  if (!statusor.ok()) return statusor.status();             \
  lhs = std::move(statusor).value()

// Broken invariant of our own code: aborts, also in release builds. Never for outside input.
#define ROLLCALL_CHECK(condition, ...)                                                       \
  do {                                                                                       \
    if (!(condition)) ::rollcall::CheckFailed(#condition, std::string_view("" __VA_ARGS__)); \
  } while (false)
