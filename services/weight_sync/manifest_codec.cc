#include "services/weight_sync/manifest_codec.h"

#include <algorithm>
#include <utility>

namespace rollcall {
namespace {

constexpr int kMaxSources = 64;

v1::DType DTypeToProto(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return v1::DTYPE_F32;
    case DType::kBF16:
      return v1::DTYPE_BF16;
    case DType::kF16:
      return v1::DTYPE_F16;
    case DType::kI64:
      return v1::DTYPE_I64;
    case DType::kI32:
      return v1::DTYPE_I32;
    case DType::kU8:
      return v1::DTYPE_U8;
    case DType::kBool:
      return v1::DTYPE_BOOL;
  }
  return v1::DTYPE_UNSPECIFIED;
}

StatusOr<DType> DTypeFromProto(v1::DType dtype) {
  switch (dtype) {
    case v1::DTYPE_F32:
      return DType::kF32;
    case v1::DTYPE_BF16:
      return DType::kBF16;
    case v1::DTYPE_F16:
      return DType::kF16;
    case v1::DTYPE_I64:
      return DType::kI64;
    case v1::DTYPE_I32:
      return DType::kI32;
    case v1::DTYPE_U8:
      return DType::kU8;
    case v1::DTYPE_BOOL:
      return DType::kBool;
    default:
      return InvalidArgument("unknown dtype number " + std::to_string(static_cast<int>(dtype)));
  }
}

std::string HashToProto(const Hash128& hash) { return {hash.begin(), hash.end()}; }

StatusOr<Hash128> HashFromProto(const std::string& bytes) {
  Hash128 hash;
  if (bytes.size() != hash.size()) {
    return InvalidArgument("a hash has " + std::to_string(bytes.size()) + " bytes, not " +
                           std::to_string(hash.size()));
  }
  std::copy(bytes.begin(), bytes.end(), hash.begin());
  return hash;
}

v1::WeightSource SourceToProto(const WeightSourceInfo& source) {
  v1::WeightSource proto;
  switch (source.kind) {
    case WeightSourceInfo::Kind::kSharedMemory:
      proto.mutable_shared_memory()->set_name(source.name);
      proto.mutable_shared_memory()->set_host_id(source.host_id);
      break;
    case WeightSourceInfo::Kind::kGrpc:
      proto.mutable_grpc()->set_address(source.address);
      break;
  }
  return proto;
}

StatusOr<ManifestTensor> TensorFromProto(const v1::TensorEntry& proto) {
  ManifestTensor tensor;
  tensor.layout.name = proto.name();
  ROLLCALL_ASSIGN_OR_RETURN(tensor.layout.dtype, DTypeFromProto(proto.dtype()));
  tensor.layout.shape = {proto.shape().begin(), proto.shape().end()};
  tensor.layout.offset_bytes = proto.offset_bytes();
  tensor.layout.size_bytes = proto.size_bytes();
  ROLLCALL_ASSIGN_OR_RETURN(tensor.hash, HashFromProto(proto.hash()));
  return tensor;
}

}  // namespace

v1::WeightManifest ManifestToProto(const Manifest& manifest) {
  v1::WeightManifest proto;
  proto.set_job_id(manifest.job_id);
  proto.set_policy_version(manifest.policy_version);
  proto.set_epoch(manifest.epoch);
  proto.set_total_bytes(manifest.total_bytes);
  proto.set_hash(HashToProto(manifest.hash));
  for (const ManifestTensor& tensor : manifest.tensors) {
    v1::TensorEntry* entry = proto.add_tensors();
    entry->set_name(tensor.layout.name);
    entry->set_dtype(DTypeToProto(tensor.layout.dtype));
    entry->mutable_shape()->Assign(tensor.layout.shape.begin(), tensor.layout.shape.end());
    entry->set_offset_bytes(tensor.layout.offset_bytes);
    entry->set_size_bytes(tensor.layout.size_bytes);
    entry->set_hash(HashToProto(tensor.hash));
  }
  for (const WeightSourceInfo& source : manifest.sources) {
    *proto.add_sources() = SourceToProto(source);
  }
  return proto;
}

StatusOr<Manifest> ManifestFromProto(const v1::WeightManifest& proto) {
  Manifest manifest;
  manifest.job_id = proto.job_id();
  manifest.policy_version = proto.policy_version();
  manifest.epoch = proto.epoch();
  manifest.total_bytes = proto.total_bytes();
  ROLLCALL_ASSIGN_OR_RETURN(manifest.hash, HashFromProto(proto.hash()));
  manifest.tensors.reserve(static_cast<size_t>(proto.tensors_size()));
  for (const v1::TensorEntry& entry : proto.tensors()) {
    StatusOr<ManifestTensor> tensor = TensorFromProto(entry);
    if (!tensor.ok()) {
      return Annotate(tensor.status(), "tensor '" + entry.name().substr(0, 256) + "'");
    }
    manifest.tensors.push_back(*std::move(tensor));
  }
  if (proto.sources_size() > kMaxSources) {
    return InvalidArgument("the manifest names " + std::to_string(proto.sources_size()) +
                           " sources; at most " + std::to_string(kMaxSources) + " are allowed");
  }
  for (const v1::WeightSource& source : proto.sources()) {
    switch (source.source_case()) {
      case v1::WeightSource::kSharedMemory:
        manifest.sources.push_back({.kind = WeightSourceInfo::Kind::kSharedMemory,
                                    .name = source.shared_memory().name(),
                                    .host_id = source.shared_memory().host_id(),
                                    .address = {}});
        break;
      case v1::WeightSource::kGrpc:
        manifest.sources.push_back({.kind = WeightSourceInfo::Kind::kGrpc,
                                    .name = {},
                                    .host_id = {},
                                    .address = source.grpc().address()});
        break;
      case v1::WeightSource::SOURCE_NOT_SET:
        break;  // a transport that this version does not know; the others may do
    }
  }
  ROLLCALL_RETURN_IF_ERROR(CheckManifest(manifest));
  return manifest;
}

}  // namespace rollcall
