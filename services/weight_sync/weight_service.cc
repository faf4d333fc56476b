#include "services/weight_sync/weight_service.h"

#include <algorithm>
#include <span>
#include <utility>

#include "services/common/rpc/status_conversion.h"

namespace rollcall {
namespace {

constexpr int kMaxStreams = 64;

// Counts a stream as long as it lives.
class StreamSlot {
 public:
  explicit StreamSlot(std::shared_ptr<std::atomic<int>> count)
      : count_(std::move(count)), granted_(count_->fetch_add(1) < kMaxStreams) {}
  ~StreamSlot() { count_->fetch_sub(1); }
  StreamSlot(const StreamSlot&) = delete;
  StreamSlot& operator=(const StreamSlot&) = delete;
  bool granted() const { return granted_; }

 private:
  const std::shared_ptr<std::atomic<int>> count_;
  const bool granted_;
};

// One write is in flight at a time; gRPC's flow control paces it to the reader.
class SnapshotStream final : public grpc::ServerWriteReactor<v1::WeightChunk> {
 public:
  SnapshotStream(std::unique_ptr<StreamSlot> slot, SnapshotBytes bytes, uint64_t offset)
      : slot_(std::move(slot)), bytes_(std::move(bytes)), offset_(offset) {
    WriteNext();
  }

  void OnWriteDone(bool ok) override {
    if (ok) {
      WriteNext();
    } else {
      Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the reader went away"));
    }
  }

  void OnDone() override { delete this; }

 private:
  void WriteNext() {
    if (offset_ >= bytes_->size()) {
      Finish(grpc::Status::OK);
      return;
    }
    const auto data = std::span(*bytes_).subspan(
        offset_, std::min<size_t>(kMaxChunkBytes, bytes_->size() - offset_));
    chunk_.set_offset_bytes(offset_);
    chunk_.set_data(data.data(), data.size());
    chunk_.set_checksum(HashBytes64(data));
    offset_ += data.size();
    StartWrite(&chunk_);
  }

  const std::unique_ptr<StreamSlot> slot_;
  const SnapshotBytes bytes_;
  uint64_t offset_;
  v1::WeightChunk chunk_;
};

// Answers with an error and nothing else.
class RefusedStream final : public grpc::ServerWriteReactor<v1::WeightChunk> {
 public:
  explicit RefusedStream(const Status& status) { Finish(ToGrpc(status)); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerWriteReactor<v1::WeightChunk>* WeightServiceImpl::FetchWeights(
    grpc::CallbackServerContext* /*context*/, const v1::FetchWeightsRequest* request) {
  StatusOr<HeldSnapshot> held = Find(*request);
  if (!held.ok()) return new RefusedStream(held.status());
  auto slot = std::make_unique<StreamSlot>(num_streams_);
  if (!slot->granted()) {
    return new RefusedStream(
        ResourceExhausted("already " + std::to_string(kMaxStreams) + " weight streams, try again"));
  }
  return new SnapshotStream(std::move(slot), std::move(held->bytes), request->offset_bytes());
}

StatusOr<HeldSnapshot> WeightServiceImpl::Find(const v1::FetchWeightsRequest& request) const {
  ROLLCALL_ASSIGN_OR_RETURN(HeldSnapshot held, lookup_(request.job_id(), request.policy_version()));
  const std::string what =
      "version " + std::to_string(request.policy_version()) + " of job '" + request.job_id() + "'";
  if (!std::equal(held.hash.begin(), held.hash.end(), request.hash().begin(), request.hash().end(),
                  [](uint8_t a, char b) { return a == static_cast<uint8_t>(b); })) {
    return NotFound(what + " is held with other bytes: it was published again");
  }
  if (request.offset_bytes() > held.bytes->size()) {
    return MakeStatus(StatusCode::kOutOfRange,
                      what + " has " + std::to_string(held.bytes->size()) + " bytes; offset " +
                          std::to_string(request.offset_bytes()) + " is beyond");
  }
  return held;
}

}  // namespace rollcall
