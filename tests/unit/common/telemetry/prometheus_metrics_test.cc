// Scrapes the real endpoint over loopback.
#include "services/common/telemetry/prometheus_metrics.h"

#include <unistd.h>

#include <chrono>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "services/base/net/address.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

// The body of GET /metrics, or "" when nobody answers.
std::string Scrape(const std::string& address) {
  const StatusOr<HostPort> target = ParseHostPort(address);
  if (!target.ok()) return "";
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(target->port));
  ::inet_pton(AF_INET, target->host.c_str(), &to.sin_addr);
  std::string answer;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0) {
    const std::string request = "GET /metrics HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n";
    if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
      char buffer[4096];
      for (ssize_t got = 0; (got = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
        answer.append(buffer, static_cast<size_t>(got));
      }
    }
  }
  ::close(fd);
  const size_t body = answer.find("\r\n\r\n");
  return body == std::string::npos ? "" : answer.substr(body + 4);
}

std::set<std::string> LinesOf(const std::string& text) {
  std::set<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.insert(line);
  }
  return lines;
}

double ValueOf(const std::set<std::string>& lines, const std::string& name) {
  for (const std::string& line : lines) {
    if (line.rfind(name + " ", 0) == 0) return std::stod(line.substr(name.size() + 1));
  }
  return -1;
}

TEST_CASE("metrics: counters, gauges and histogram buckets are served", "[unit][telemetry]") {
  REQUIRE_OK_AND_ASSIGN(const auto server, StartMetricsServer("127.0.0.1:0", "coordinator"));
  MetricsRegistry& registry = server->registry();
  registry.GetCounter("rollcall_lease_expired_total", "Leases that ran out", {{"role", "rollout"}})
      .Increment();
  registry.GetCounter("rollcall_lease_expired_total", "Leases that ran out", {{"role", "rollout"}})
      .Increment(2);
  registry.GetCounter("rollcall_lease_expired_total", "Leases that ran out", {{"role", "reward"}})
      .Increment(5);
  registry.GetGauge("rollcall_queue_depth", "Samples waiting").Set(-1.5);
  Histogram& wait =
      registry.GetHistogram("rollcall_queue_wait_seconds", "Time waiting", {0.1, 1.0});
  for (const double seconds : {0.05, 0.1, 0.5, 3.0}) wait.Observe(seconds);

  const std::string text = Scrape(server->address());
  INFO(text);
  const std::set<std::string> lines = LinesOf(text);
  CHECK(lines.count("# HELP rollcall_lease_expired_total Leases that ran out") == 1);
  CHECK(lines.count("# TYPE rollcall_lease_expired_total counter") == 1);
  CHECK(lines.count("rollcall_lease_expired_total{role=\"rollout\"} 3") == 1);
  CHECK(lines.count("rollcall_lease_expired_total{role=\"reward\"} 5") == 1);
  CHECK(lines.count("rollcall_queue_depth -1.5") == 1);
  CHECK(lines.count("# TYPE rollcall_queue_wait_seconds histogram") == 1);
  CHECK(lines.count("rollcall_queue_wait_seconds_bucket{le=\"0.1\"} 2") == 1);
  CHECK(lines.count("rollcall_queue_wait_seconds_bucket{le=\"1\"} 3") == 1);
  CHECK(lines.count("rollcall_queue_wait_seconds_bucket{le=\"+Inf\"} 4") == 1);
  CHECK(lines.count("rollcall_queue_wait_seconds_count 4") == 1);
  CHECK(text.find("rollcall_build_info{role=\"coordinator\",version=\"") != std::string::npos);
}

TEST_CASE("metrics: the process describes itself", "[unit][telemetry]") {
  REQUIRE_OK_AND_ASSIGN(const auto server, StartMetricsServer("127.0.0.1:0", "rollout"));
  const std::set<std::string> lines = LinesOf(Scrape(server->address()));
  const double now = static_cast<double>(std::chrono::duration_cast<std::chrono::seconds>(
                                             std::chrono::system_clock::now().time_since_epoch())
                                             .count());
  CHECK(ValueOf(lines, "process_resident_memory_bytes") > 1e6);
  CHECK(ValueOf(lines, "process_cpu_seconds_total") >= 0);
  CHECK(ValueOf(lines, "process_open_fds") >= 3);
  const double started = ValueOf(lines, "process_start_time_seconds");
  CHECK(started <= now + 1);
  CHECK(started > now - 3600);
}

TEST_CASE("metrics: one name and label set is one object, from any thread", "[unit][telemetry]") {
  REQUIRE_OK_AND_ASSIGN(const auto server, StartMetricsServer("127.0.0.1:0", "reward"));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 100; ++k) {
        server->registry().GetCounter("rollcall_test_total", "help").Increment();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(ValueOf(LinesOf(Scrape(server->address())), "rollcall_test_total") == 400);
  CHECK(&server->registry().GetGauge("rollcall_a", "a") ==
        &server->registry().GetGauge("rollcall_a", "a"));
}

TEST_CASE("metrics: a port in use and a bad address are clear errors", "[unit][telemetry]") {
  REQUIRE_OK_AND_ASSIGN(const auto server, StartMetricsServer("127.0.0.1:0", "reward"));
  const Status in_use = StartMetricsServer(server->address(), "reward").status();
  CHECK(in_use.code() == StatusCode::kUnavailable);
  CHECK(Message(in_use).find(server->address() + ": address in use") != std::string::npos);
  CHECK(StartMetricsServer("9100", "reward").status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace rollcall
