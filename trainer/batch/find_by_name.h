// Look-up in a registry of parts.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "services/base/status/status.h"

namespace rollcall {

// The part with this name; kInvalidArgument names the job file's key and the names there are.
template <typename Part>
StatusOr<Part> FindByName(std::span<const Part> parts, std::string_view key,
                          std::string_view name) {
  std::string known;
  for (const Part& part : parts) {
    if (part.name == name) return part;
    known += (known.empty() ? "" : ", ") + std::string(part.name);
  }
  return InvalidArgument(std::string(key) + " '" + std::string(name) +
                         "' is not known; the learner has " + known);
}

}  // namespace rollcall
