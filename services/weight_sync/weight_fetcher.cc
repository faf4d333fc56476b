#include "services/weight_sync/weight_fetcher.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/time/clock.h"
#include "rollcall/v1/weights.grpc.pb.h"
#include "services/common/rpc/client.h"
#include "services/weight_sync/shared_memory.h"
#include "services/weight_sync/weight_service.h"

namespace rollcall {
namespace {

// Of one source: attempts in all, and in a row without a new byte.
constexpr int kMaxAttempts = 20;
constexpr int kMaxFruitlessAttempts = 5;

// For messages: where in the model a broken byte is.
std::string DescribeOffset(const Manifest& manifest, uint64_t offset) {
  for (const ManifestTensor& tensor : manifest.tensors) {
    const TensorLayout& layout = tensor.layout;
    if (offset >= layout.offset_bytes && offset - layout.offset_bytes < layout.size_bytes) {
      return "tensor '" + layout.name + "'";
    }
  }
  return "byte " + std::to_string(offset);
}

// Puts the chunk at the end of what was received.
Status AppendChunk(const Manifest& manifest, const v1::WeightChunk& chunk,
                   std::vector<std::byte>& bytes, uint64_t& received) {
  const std::string& data = chunk.data();
  if (chunk.offset_bytes() != received || data.empty() || data.size() > kMaxChunkBytes ||
      data.size() > manifest.total_bytes - received) {
    return DataLoss("a chunk of " + std::to_string(data.size()) + " bytes at offset " +
                    std::to_string(chunk.offset_bytes()) + " does not continue at " +
                    std::to_string(received) + " of " + std::to_string(manifest.total_bytes));
  }
  if (HashBytes64(std::as_bytes(std::span(data))) != chunk.checksum()) {
    return DataLoss(DescribeOffset(manifest, received) +
                    ": a chunk was damaged on the way, its checksum does not match");
  }
  std::memcpy(bytes.data() + received, data.data(), data.size());
  received += data.size();
  return OkStatus();
}

// One stream, from where the last one stopped. OK only when everything is there.
Status ContinueStream(v1::WeightService::Stub& stub, const Manifest& manifest, absl::Time deadline,
                      std::vector<std::byte>& bytes, uint64_t& received) {
  v1::FetchWeightsRequest request;
  request.set_job_id(manifest.job_id);
  request.set_policy_version(manifest.policy_version);
  request.set_hash(manifest.hash.data(), manifest.hash.size());
  request.set_offset_bytes(received);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  const auto reader = stub.FetchWeights(&context, request);
  Status damage = OkStatus();
  v1::WeightChunk chunk;
  while (damage.ok() && reader->Read(&chunk)) {
    damage = AppendChunk(manifest, chunk, bytes, received);
  }
  if (!damage.ok()) context.TryCancel();
  const Status status = FromGrpc(reader->Finish());
  if (!damage.ok()) return damage;
  ROLLCALL_RETURN_IF_ERROR(status);
  if (received < manifest.total_bytes) {
    return DataLoss("the stream ended after " + std::to_string(received) + " of " +
                    std::to_string(manifest.total_bytes) + " bytes");
  }
  return OkStatus();
}

// Worth another attempt at the same source.
bool IsTransient(StatusCode code) {
  switch (code) {
    case StatusCode::kUnavailable:
    case StatusCode::kResourceExhausted:
    case StatusCode::kDataLoss:
    case StatusCode::kInternal:
    case StatusCode::kCancelled:
    case StatusCode::kAborted:
    case StatusCode::kUnknown:
      return true;
    default:
      return false;
  }
}

StatusOr<std::vector<std::byte>> FetchByGrpc(const Manifest& manifest, const std::string& address,
                                             const TlsOptions& tls, absl::Time deadline) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel,
                            MakeChannel(address, tls));
  const auto stub = v1::WeightService::NewStub(channel);
  std::vector<std::byte> bytes(manifest.total_bytes);
  uint64_t received = 0;
  Status status = OkStatus();
  int fruitless = 0;
  for (int attempt = 0; attempt < kMaxAttempts && fruitless < kMaxFruitlessAttempts; ++attempt) {
    if (fruitless > 0) internal::BackOff(fruitless);
    if (absl::Now() >= deadline) break;
    const uint64_t before = received;
    status = ContinueStream(*stub, manifest, deadline, bytes, received);
    if (status.ok()) return bytes;
    if (!IsTransient(status.code())) break;
    fruitless = received > before ? 0 : fruitless + 1;
  }
  return status.ok() ? DeadlineExceeded("no time left") : status;
}

StatusOr<std::vector<std::byte>> FetchFrom(const WeightSourceInfo& source, const Manifest& manifest,
                                           const TlsOptions& tls, absl::Time deadline) {
  // A snapshot that does not fit in memory is a failure of this fetch, not of the process.
  return GuardExceptions("fetch", [&]() -> StatusOr<std::vector<std::byte>> {
    StatusOr<std::vector<std::byte>> bytes =
        source.kind == WeightSourceInfo::Kind::kSharedMemory
            ? ReadSharedMemory(source.name, manifest.total_bytes)
            : FetchByGrpc(manifest, source.address, tls, deadline);
    if (bytes.ok()) {
      ROLLCALL_RETURN_IF_ERROR(VerifySnapshot(manifest, *bytes));
    }
    return bytes;
  });
}

std::string_view TransportOf(const WeightSourceInfo& source) {
  return source.kind == WeightSourceInfo::Kind::kSharedMemory ? "shared_memory" : "grpc";
}

}  // namespace

StatusOr<FetchedWeights> FetchWeights(const Manifest& manifest, const TlsOptions& tls,
                                      absl::Duration timeout) {
  ROLLCALL_RETURN_IF_ERROR(CheckManifest(manifest));
  const absl::Time start = absl::Now();
  const absl::Time deadline = start + timeout;
  std::vector<const WeightSourceInfo*> sources;
  const std::string host_id = HostId();
  for (const WeightSourceInfo& source : manifest.sources) {
    const bool elsewhere = source.kind == WeightSourceInfo::Kind::kSharedMemory &&
                           (host_id.empty() || source.host_id != host_id);
    if (!elsewhere) sources.push_back(&source);
  }
  std::string failures;
  size_t num_damaged = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    const WeightSourceInfo& source = *sources[i];
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      failures += "; out of time";
      break;
    }
    // An equal share of what is left, so that a source that hangs leaves time for the next one.
    const absl::Duration share = left / static_cast<int64_t>(sources.size() - i);
    StatusOr<std::vector<std::byte>> bytes = FetchFrom(source, manifest, tls, absl::Now() + share);
    if (bytes.ok()) {
      return FetchedWeights{.snapshot = *std::move(bytes),
                            .transport = std::string(TransportOf(source)),
                            .seconds = absl::ToDoubleSeconds(absl::Now() - start)};
    }
    if (bytes.status().code() == StatusCode::kDataLoss) ++num_damaged;
    failures += "; " + std::string(TransportOf(source)) + " " +
                (source.address.empty() ? source.name : source.address) + ": " +
                Message(bytes.status());
  }
  const std::string what = "version " + std::to_string(manifest.policy_version) + " of job '" +
                           manifest.job_id + "' from no source" + failures;
  if (sources.empty()) {
    return Unavailable(what + "; the manifest names none that this host can use");
  }
  return num_damaged == sources.size() ? DataLoss(what) : Unavailable(what);
}

}  // namespace rollcall
