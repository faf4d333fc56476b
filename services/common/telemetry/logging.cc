#include "services/common/telemetry/logging.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace rollcall {
namespace {

constexpr size_t kRotateBytes = 64 << 20;
constexpr size_t kKeptFiles = 3;

StatusOr<spdlog::level::level_enum> ParseLevel(const std::string& level) {
  if (level == "debug") return spdlog::level::debug;
  if (level == "info") return spdlog::level::info;
  if (level == "warning") return spdlog::level::warn;
  if (level == "error") return spdlog::level::err;
  return InvalidArgument("log level '" + level + "' is not one of debug, info, warning, error");
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

// Text from outside (prompts, error messages of peers) must not be able to forge a line.
std::string OneLine(std::string_view message) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string line;
  line.reserve(message.size() + 16);
  for (const char c : message) {
    if (c == '\n') {
      line += "\\n";
    } else if (IsControl(c) && c != '\t') {
      line += "\\x";
      line += kDigits[static_cast<unsigned char>(c) >> 4];
      line += kDigits[static_cast<unsigned char>(c) & 15];
    } else {
      line += c;
    }
  }
  return line;
}

class SpdlogLogger final : public Logger {
 public:
  explicit SpdlogLogger(std::unique_ptr<spdlog::logger> logger) : logger_(std::move(logger)) {}

  void Log(LogLevel level, std::string_view message) override {
    const spdlog::level::level_enum spdlog_level = ToSpdlog(level);
    if (!logger_->should_log(spdlog_level)) return;
    if (std::any_of(message.begin(), message.end(), IsControl)) {
      logger_->log(spdlog_level, spdlog::string_view_t(OneLine(message)));
    } else {
      logger_->log(spdlog_level, spdlog::string_view_t(message.data(), message.size()));
    }
  }

 private:
  std::unique_ptr<spdlog::logger> logger_;
};

}  // namespace

StatusOr<std::unique_ptr<Logger>> MakeLogger(const LoggingOptions& options) {
  ROLLCALL_ASSIGN_OR_RETURN(const spdlog::level::level_enum level, ParseLevel(options.level));
  std::vector<spdlog::sink_ptr> sinks = {std::make_shared<spdlog::sinks::stderr_sink_mt>()};
  if (!options.file.empty()) {
    try {
      sinks.push_back(std::make_shared<spdlog::sinks::rotating_file_sink_mt>(
          options.file, kRotateBytes, kKeptFiles));
    } catch (const spdlog::spdlog_ex& e) {
      return InvalidArgument("cannot log to '" + options.file + "': " + e.what());
    }
  }
  auto logger = std::make_unique<spdlog::logger>(options.process, sinks.begin(), sinks.end());
  logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      "%Y-%m-%dT%H:%M:%S.%eZ %l %n %v", spdlog::pattern_time_type::utc));
  logger->set_level(level);
  // The last lines before a crash are the ones that matter, and there are few lines.
  logger->flush_on(spdlog::level::debug);
  return std::make_unique<SpdlogLogger>(std::move(logger));
}

}  // namespace rollcall
