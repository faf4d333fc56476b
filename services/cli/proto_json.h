// Messages as JSON for scripts: field names as in the .proto files, numbers as numbers, enum values
// by name, timestamps as RFC 3339, durations in seconds. Fields at their default are written too;
// optional ones that are absent are not.
#pragma once

#include <string>

#include <google/protobuf/message.h>
#include <nlohmann/json.hpp>

namespace rollcall {

nlohmann::ordered_json ToJson(const google::protobuf::Message& message);

// On one line; bytes that are no UTF-8 are replaced.
std::string JsonText(const nlohmann::ordered_json& json);

}  // namespace rollcall
