#include "services/common/telemetry/logging.h"

#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

std::vector<std::string> Lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

TEST_CASE("logging: a line has time, level, process and message", "[unit][telemetry]") {
  const testing::TempDir dir;
  const std::string path = dir.File("logs/rollout-0.log");
  REQUIRE_OK_AND_ASSIGN(const auto logger, MakeLogger({.process = "rollout-0", .file = path}));
  logger->Warning("lease expired job=j1 {not a format}");
  const std::vector<std::string> lines = Lines(path);
  REQUIRE(lines.size() == 1);
  INFO(lines[0]);
  CHECK(std::regex_match(lines[0],
                         std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning rollout-0 )"
                                    R"(lease expired job=j1 \{not a format\})")));
}

TEST_CASE("logging: lines below the level are dropped", "[unit][telemetry]") {
  const testing::TempDir dir;
  REQUIRE_OK_AND_ASSIGN(const auto logger,
                        MakeLogger({.process = "p", .file = dir.File("log"), .level = "warning"}));
  logger->Log(LogLevel::kDebug, "debug");
  logger->Info("info");
  logger->Warning("warning");
  logger->Error("error");
  CHECK(Lines(dir.File("log")).size() == 2);
}

TEST_CASE("logging: text from outside cannot forge a line", "[unit][telemetry]") {
  const testing::TempDir dir;
  REQUIRE_OK_AND_ASSIGN(const auto logger, MakeLogger({.process = "p", .file = dir.File("log")}));
  logger->Info("prompt=\"a\n2026-01-01T00:00:00.000Z error p forged\r\x1b[31m\" done");
  const std::vector<std::string> lines = Lines(dir.File("log"));
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].find("a\\n2026") != std::string::npos);
  CHECK(lines[0].find("forged\\x0d\\x1b[31m\" done") != std::string::npos);
}

TEST_CASE("logging: a file is appended to", "[unit][telemetry]") {
  const testing::TempDir dir;
  for (int start = 0; start < 2; ++start) {
    REQUIRE_OK_AND_ASSIGN(const auto logger, MakeLogger({.process = "p", .file = dir.File("log")}));
    logger->Info("started");
  }
  CHECK(Lines(dir.File("log")).size() == 2);
}

TEST_CASE("logging: an unknown level and an impossible file are refused", "[unit][telemetry]") {
  const testing::TempDir dir;
  const Status level = MakeLogger({.process = "p", .file = "", .level = "loud"}).status();
  CHECK(level.code() == StatusCode::kInvalidArgument);
  CHECK(Message(level).find("'loud'") != std::string::npos);
  const std::string impossible = dir.Write("file", "x") + "/log";
  const Status file = MakeLogger({.process = "p", .file = impossible}).status();
  CHECK(file.code() == StatusCode::kInvalidArgument);
  CHECK(Message(file).find(impossible) != std::string::npos);
}

}  // namespace
}  // namespace rollcall
