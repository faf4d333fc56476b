// Manifest <-> protobuf.
#pragma once

#include "rollcall/v1/weights.pb.h"
#include "services/base/status/status.h"
#include "services/weight_sync/manifest.h"

namespace rollcall {

v1::WeightManifest ManifestToProto(const Manifest& manifest);
// kInvalidArgument when sizes, offsets or hashes do not make sense together.
StatusOr<Manifest> ManifestFromProto(const v1::WeightManifest& proto);

}  // namespace rollcall
