#include "services/common/telemetry/prometheus_metrics.h"

#include <netdb.h>
#include <unistd.h>

#include <chrono>
#include <exception>
#include <future>
#include <map>
#include <thread>
#include <utility>

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>

#include "absl/base/thread_annotations.h"
#include "services/base/net/address.h"
#include "services/base/sync/mutex.h"
#include "services/common/telemetry/process_collector.h"

namespace rollcall {
namespace {

class PrometheusCounter final : public Counter {
 public:
  explicit PrometheusCounter(prometheus::Counter& counter) : counter_(counter) {}
  void Increment(double by) override { counter_.Increment(by); }

 private:
  prometheus::Counter& counter_;
};

class PrometheusGauge final : public Gauge {
 public:
  explicit PrometheusGauge(prometheus::Gauge& gauge) : gauge_(gauge) {}
  void Set(double value) override { gauge_.Set(value); }

 private:
  prometheus::Gauge& gauge_;
};

class PrometheusHistogram final : public Histogram {
 public:
  explicit PrometheusHistogram(prometheus::Histogram& histogram) : histogram_(histogram) {}
  void Observe(double value) override { histogram_.Observe(value); }

 private:
  prometheus::Histogram& histogram_;
};

// The metrics of one kind: families by name, our handles by name and labels.
template <typename Metric, typename Handle>
class MetricTable {
 public:
  // make_family() builds the family of a new name; `extra` goes to prometheus::Family::Add.
  template <typename MakeFamily, typename... Extra>
  Handle& Get(const std::string& name, const Labels& labels, MakeFamily make_family,
              const Extra&... extra) {
    std::unique_ptr<Handle>& handle = handles_[{name, labels}];
    if (handle == nullptr) {
      prometheus::Family<Metric>*& family = families_[name];
      if (family == nullptr) family = &make_family();
      handle = std::make_unique<Handle>(family->Add(labels, extra...));
    }
    return *handle;
  }

 private:
  std::map<std::string, prometheus::Family<Metric>*> families_;
  std::map<std::pair<std::string, Labels>, std::unique_ptr<Handle>> handles_;
};

// A malformed name, or one name for two kinds, is a mistake in our own code: prometheus-cpp throws
// and the process ends with its message.
class PrometheusRegistry final : public MetricsRegistry {
 public:
  PrometheusRegistry() : registry_(std::make_shared<prometheus::Registry>()) {}

  Counter& GetCounter(const std::string& name, const std::string& help,
                      const Labels& labels) override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return counters_.Get(name, labels, [&]() -> prometheus::Family<prometheus::Counter>& {
      return prometheus::BuildCounter().Name(name).Help(help).Register(*registry_);
    });
  }

  Gauge& GetGauge(const std::string& name, const std::string& help, const Labels& labels) override
      ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return gauges_.Get(name, labels, [&]() -> prometheus::Family<prometheus::Gauge>& {
      return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_);
    });
  }

  Histogram& GetHistogram(const std::string& name, const std::string& help,
                          const std::vector<double>& buckets, const Labels& labels) override
      ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return histograms_.Get(
        name, labels,
        [&]() -> prometheus::Family<prometheus::Histogram>& {
          return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry_);
        },
        buckets);
  }

  std::shared_ptr<prometheus::Registry> collectable() const { return registry_; }

 private:
  const std::shared_ptr<prometheus::Registry> registry_;

  Mutex mu_;
  MetricTable<prometheus::Counter, PrometheusCounter> counters_ ABSL_GUARDED_BY(mu_);
  MetricTable<prometheus::Gauge, PrometheusGauge> gauges_ ABSL_GUARDED_BY(mu_);
  MetricTable<prometheus::Histogram, PrometheusHistogram> histograms_ ABSL_GUARDED_BY(mu_);
};

// Connects to a listener of this process and hangs up.
void Knock(const HostPort& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found) !=
      0) {
    return;
  }
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    const int fd = ::socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                            info->ai_protocol);
    if (fd < 0) continue;
    // Nobody needs the outcome: the attempt alone wakes the accept loop.
    static_cast<void>(::connect(fd, info->ai_addr, info->ai_addrlen));
    ::close(fd);
  }
  ::freeaddrinfo(found);
}

class PrometheusServer final : public MetricsServer {
 public:
  PrometheusServer(std::unique_ptr<prometheus::Exposer> exposer, HostPort listener)
      : process_(MakeProcessCollector()),
        exposer_(std::move(exposer)),
        listener_(std::move(listener)),
        address_(JoinHostPort(listener_)) {
    exposer_->RegisterCollectable(registry_.collectable());
    exposer_->RegisterCollectable(process_);
  }

  // civetweb's accept loop looks at its stop flag every two seconds, or when somebody knocks.
  ~PrometheusServer() override {
    std::promise<void> stopped;
    std::thread stopper([&] {
      exposer_.reset();
      stopped.set_value();
    });
    const std::future<void> end = stopped.get_future();
    while (end.wait_for(std::chrono::milliseconds(5)) != std::future_status::ready) {
      Knock(listener_);
    }
    stopper.join();
  }

  MetricsRegistry& registry() override { return registry_; }
  const std::string& address() const override { return address_; }
  std::string Text() const override {
    std::vector<prometheus::MetricFamily> families = registry_.collectable()->Collect();
    for (prometheus::MetricFamily& family : process_->Collect()) {
      families.push_back(std::move(family));
    }
    return prometheus::TextSerializer().Serialize(families);
  }

 private:
  PrometheusRegistry registry_;
  const std::shared_ptr<prometheus::Collectable> process_;
  // After what it serves, so that it stops first.
  std::unique_ptr<prometheus::Exposer> exposer_;
  const HostPort listener_;
  const std::string address_;
};

}  // namespace

StatusOr<std::unique_ptr<MetricsServer>> StartMetricsServer(const std::string& listen_address,
                                                            const std::string& role) {
  ROLLCALL_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(listen_address));
  std::unique_ptr<prometheus::Exposer> exposer;
  try {
    exposer = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", JoinHostPort(address), "num_threads", "2",
                                 "request_timeout_ms", "10000"});
    const std::vector<int> ports = exposer->GetListeningPorts();
    if (ports.empty()) {
      exposer.reset();
    } else {
      address.port = ports.front();
    }
  } catch (const std::exception&) {
    // CivetException says only "null context": the reason is asked for below.
  }
  if (exposer == nullptr) {
    return Unavailable("cannot serve /metrics on " + listen_address + ": " +
                       ExplainBindFailure(address));
  }
  auto server = std::make_unique<PrometheusServer>(std::move(exposer), address);
  server->registry()
      .GetGauge("rollcall_build_info", "What runs here; always 1",
                {{"role", role}, {"version", ROLLCALL_VERSION}})
      .Set(1);
  return server;
}

}  // namespace rollcall
