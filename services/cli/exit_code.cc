#include "services/cli/exit_code.h"

#include "services/cli/render/text.h"

namespace rollcall {

int ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return kExitOk;
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kAlreadyExists:
      return kExitUsage;
    case StatusCode::kUnavailable:
    case StatusCode::kDeadlineExceeded:
      return kExitUnreachable;
    default:
      return kExitFailure;
  }
}

std::string ErrorText(const Status& status) {
  const std::string message = Message(status);
  std::string text = "error: ";
  size_t begin = 0;
  while (begin <= message.size()) {
    const size_t end = std::min(message.find('\n', begin), message.size());
    if (begin > 0) text += "  ";
    // Messages quote files and answers of others.
    text += OneLine(message.substr(begin, end - begin)) + "\n";
    begin = end + 1;
  }
  return text;
}

std::string CodeName(const Status& status) {
  return std::string(absl::StatusCodeToString(status.code()));
}

}  // namespace rollcall
