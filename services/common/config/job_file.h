// A YAML job file becomes a resolved JobSpec.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rollcall/v1/job.pb.h"
#include "services/base/status/status.h"

namespace rollcall {

// Parses, expands the preset, fills defaults (from the field rules in job.proto) and checks ranges
// and cross-field arithmetic. `origin` is the file name used in messages; `overrides` are
// "section.key=value" strings that win over the file. Relative paths (model.path, data.path,
// evaluate.path, run.output_dir) are taken relative to base_dir and come out absolute.
// kInvalidArgument: "job.yaml:12: rollout.temprature: unknown key; did you mean 'temperature'?".
// All problems are reported, one a line.
StatusOr<v1::JobSpec> ParseJobFile(std::string_view yaml, const std::string& origin,
                                   const std::string& base_dir,
                                   const std::vector<std::string>& overrides = {});

// Reads the file (at most 256 KiB); base_dir is the file's directory.
StatusOr<v1::JobSpec> LoadJobFile(const std::string& path,
                                  const std::vector<std::string>& overrides = {});

// The checks of ParseJobFile on a spec that came over the wire: every factor present and known,
// ranges, arithmetic. The coordinator trusts nobody.
Status ValidateJobSpec(const v1::JobSpec& spec);

// The resolved spec as YAML, in schema order.
std::string JobSpecToYaml(const v1::JobSpec& spec);

// The whole schema with defaults, ranges and help, for `rollcall help-job`.
std::string JobSchemaText();

}  // namespace rollcall
