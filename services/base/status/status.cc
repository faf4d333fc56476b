#include "services/base/status/status.h"

#include <cstdio>
#include <cstdlib>
#include <new>

namespace rollcall {

Status Annotate(const Status& status, std::string_view prefix) {
  if (status.ok()) return status;
  std::string message(prefix);
  message += ": ";
  message += Message(status);
  return MakeStatus(status.code(), message);
}

void CheckFailed(const char* condition, std::string_view message, std::source_location where) {
  std::fprintf(stderr, "%s:%u: invariant broken: %s %.*s\n", where.file_name(), where.line(),
               condition, static_cast<int>(message.size()), message.data());
  std::abort();
}

Status StatusFromCurrentException(std::string_view what) {
  std::string message(what);
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(message + ": out of memory");
  } catch (const std::exception& e) {
    return Internal(message + ": " + e.what());
  } catch (...) {
    return Internal(message + ": unknown exception");
  }
}

}  // namespace rollcall
