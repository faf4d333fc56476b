// Logging interface for code that must not know spdlog (the engine half). Messages are one
// sentence plus key=value fields.
#pragma once

#include <string_view>

namespace rollcall {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Thread-safe.
class Logger {
 public:
  virtual ~Logger() = default;
  virtual void Log(LogLevel level, std::string_view message) = 0;

  void Info(std::string_view message) { Log(LogLevel::kInfo, message); }
  void Warning(std::string_view message) { Log(LogLevel::kWarning, message); }
  void Error(std::string_view message) { Log(LogLevel::kError, message); }
};

// Drops everything.
class NullLogger final : public Logger {
 public:
  void Log(LogLevel, std::string_view) override {}
};

}  // namespace rollcall
