// The rotary embedding's keys of config.json: rope_parameters as transformers 5 writes it,
// rope_theta and rope_scaling as older versions do.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "services/model/config/json_reader.h"
#include "services/model/config/rope.h"

namespace rollcall {

// Whether a head may turn in part. `key` is where older files keep the share.
struct PartialRotary {
  const char* key = nullptr;  // null: all of it turns
  double fallback = 1.0;
};

// What stands at the top of the file for older versions and inside the objects for newer ones.
//   max_positions  what transformers takes for a missing original_max_position_embeddings
RopeConfig ReadRope(JsonReader& reader, const char* theta_key, double default_theta,
                    const PartialRotary& partial, int64_t max_positions);

// One object of parameters over `rope`, which holds the defaults.
void ReadRopeObject(JsonReader& reader, const PartialRotary& partial, int64_t max_positions,
                    RopeConfig& rope);

// The object for rope_parameters.
nlohmann::ordered_json RopeToJson(const RopeConfig& rope);

// Writes rope_parameters and, for older versions, `theta_key` and rope_scaling.
void WriteRope(const RopeConfig& rope, const char* theta_key, nlohmann::ordered_json& json);

}  // namespace rollcall
