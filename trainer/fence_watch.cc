#include "trainer/fence_watch.h"

#include <utility>

#include <grpcpp/grpcpp.h>

#include "absl/time/clock.h"
#include "services/common/rpc/status_conversion.h"

namespace rollcall {
namespace {

constexpr const char* kNeverSet = "fence-watch";
constexpr absl::Duration kPause = absl::Milliseconds(200);
constexpr absl::Duration kWaitSlack = absl::Seconds(10);

}  // namespace

FenceWatch::FenceWatch(v1::LearnerService::Stub& stub, const v1::GroupMember& member,
                       absl::Duration poll_wait, std::function<void(const Status&)> on_fenced)
    : stub_(stub), member_(member), poll_wait_(poll_wait), on_fenced_(std::move(on_fenced)) {
  thread_ = std::thread([this] { Run(); });
}

FenceWatch::~FenceWatch() {
  {
    MutexLock lock(mu_);
    over_ = true;
    if (context_ != nullptr) context_->TryCancel();
    changed_.NotifyAll();
  }
  thread_.join();
}

void FenceWatch::Run() {
  // A coordinator that cannot be reached fences nobody: only its own word counts.
  while (Pause()) {
    const Status status = AskOnce();
    if (status.code() == StatusCode::kAborted) {
      on_fenced_(status);
      return;
    }
  }
}

bool FenceWatch::Pause() {
  MutexLock lock(mu_);
  const absl::Time deadline = absl::Now() + kPause;
  while (!over_) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return true;
    changed_.WaitFor(mu_, left);
  }
  return false;
}

Status FenceWatch::AskOnce() {
  v1::StoreGetRequest request;
  *request.mutable_member() = member_;
  request.set_key(kNeverSet);
  const int64_t nanos = absl::ToInt64Nanoseconds(poll_wait_);
  request.mutable_wait()->set_seconds(nanos / 1000000000);
  request.mutable_wait()->set_nanos(static_cast<int32_t>(nanos % 1000000000));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + poll_wait_ + kWaitSlack));
  {
    MutexLock lock(mu_);
    if (over_) return OkStatus();
    context_ = &context;
  }
  v1::StoreGetResponse response;
  const Status status = FromGrpc(stub_.StoreGet(&context, request, &response));
  MutexLock lock(mu_);
  context_ = nullptr;
  return status;
}

}  // namespace rollcall
