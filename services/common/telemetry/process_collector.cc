#include "services/common/telemetry/process_collector.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>
#include <prometheus/metric_type.h>

namespace rollcall {
namespace {

struct ProcessStat {
  double cpu_ticks = 0;
  double start_ticks = 0;  // since boot
  double resident_pages = 0;
};

// /proc/self/stat; see proc(5). Fields are counted from 1, field 2 is the name in parentheses and
// may hold anything.
std::optional<ProcessStat> ReadProcessStat() {
  std::ifstream file("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream rest(text.substr(name_end + 1));
  const std::vector<std::string> fields{std::istream_iterator<std::string>(rest), {}};
  constexpr size_t kFirstField = 3;
  constexpr size_t kUserTicks = 14, kSystemTicks = 15, kStartTicks = 22, kResidentPages = 24;
  if (fields.size() <= kResidentPages - kFirstField) return std::nullopt;
  const auto field = [&](size_t number) { return std::stod(fields[number - kFirstField]); };
  return ProcessStat{.cpu_ticks = field(kUserTicks) + field(kSystemTicks),
                     .start_ticks = field(kStartTicks),
                     .resident_pages = field(kResidentPages)};
}

// Seconds since the epoch.
std::optional<double> ReadBootTime() {
  std::ifstream file("/proc/stat");
  std::string word;
  double value = 0;
  while (file >> word) {
    if (word == "btime" && file >> value) return value;
  }
  return std::nullopt;
}

std::optional<double> CountOpenFiles() {
  std::error_code error;
  const std::filesystem::directory_iterator files("/proc/self/fd", error);
  if (error) return std::nullopt;
  // Less the descriptor of this listing.
  return static_cast<double>(std::distance(begin(files), end(files))) - 1;
}

prometheus::MetricFamily OneValue(const std::string& name, const std::string& help,
                                  prometheus::MetricType type, double value) {
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return prometheus::MetricFamily{name, help, type, {std::move(metric)}};
}

class ProcessCollector final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override {
    using prometheus::MetricType;
    const auto ticks_per_second = static_cast<double>(::sysconf(_SC_CLK_TCK));
    std::vector<prometheus::MetricFamily> families;
    if (const std::optional<ProcessStat> stat = ReadProcessStat()) {
      if (boot_time_) {
        families.push_back(OneValue(
            "process_start_time_seconds", "When the process started, seconds since the epoch",
            MetricType::Gauge, *boot_time_ + stat->start_ticks / ticks_per_second));
      }
      families.push_back(
          OneValue("process_resident_memory_bytes", "Resident memory", MetricType::Gauge,
                   stat->resident_pages * static_cast<double>(::sysconf(_SC_PAGESIZE))));
      families.push_back(OneValue("process_cpu_seconds_total", "User and system CPU time",
                                  MetricType::Counter, stat->cpu_ticks / ticks_per_second));
    }
    if (const std::optional<double> files = CountOpenFiles()) {
      families.push_back(
          OneValue("process_open_fds", "Open file descriptors", MetricType::Gauge, *files));
    }
    return families;
  }

 private:
  const std::optional<double> boot_time_ = ReadBootTime();
};

}  // namespace

std::shared_ptr<prometheus::Collectable> MakeProcessCollector() {
  return std::make_shared<ProcessCollector>();
}

}  // namespace rollcall
