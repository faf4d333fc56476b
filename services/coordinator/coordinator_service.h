// The gRPC services of the coordinator: they convert, call the core, and answer when it does.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "services/base/metrics/metrics.h"
#include "services/base/runtime/executor.h"
#include "services/coordinator/coordinator.h"

namespace rollcall::coordinator {

// What GetCluster tells of the coordinator itself.
struct SelfInfo {
  std::string name;
  std::string host;
  int64_t pid = 0;
  std::string address;
  std::string metrics_address;
  std::string version;
};

// All five services over one coordinator. Everything is borrowed and must outlive the server.
class CoordinatorServices {
 public:
  // `executor` runs what reads files (submit).
  static std::unique_ptr<CoordinatorServices> Create(Coordinator& coordinator, Executor& executor,
                                                     MetricsRegistry& metrics);
  virtual ~CoordinatorServices() = default;
  virtual std::vector<grpc::Service*> services() = 0;
  // Call once, before the server is announced.
  virtual void SetSelf(const SelfInfo& self) = 0;
};

}  // namespace rollcall::coordinator
