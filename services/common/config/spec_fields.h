// One setting of a JobSpec, seen through protobuf reflection: its rules, its text form, its range.
// A setting is a field that is written as one YAML scalar: text, number, bool, enum or duration.
#pragma once

#include <string>
#include <string_view>

#include <google/protobuf/message.h>

#include "rollcall/v1/options.pb.h"
#include "services/base/status/status.h"

namespace rollcall {

const v1::FieldRules& RulesOf(const google::protobuf::FieldDescriptor& field);

bool IsDuration(const google::protobuf::FieldDescriptor& field);

// A singular or repeated message with settings of its own (not a duration, not a map).
bool IsSection(const google::protobuf::FieldDescriptor& field);

// "number", "whole number", "true or false", "duration", "text", or the choices of an enum.
std::string TypeText(const google::protobuf::FieldDescriptor& field);

// "0 to 100", "more than 0 and at most 1", "at least 1"; empty without bounds.
std::string RangeText(const google::protobuf::FieldDescriptor& field);

// Sets a singular setting from its YAML spelling. kInvalidArgument: "expected a number, got 'x'".
// Checks the type only, see CheckSettingRange.
Status SetSetting(std::string_view text, const google::protobuf::FieldDescriptor& field,
                  google::protobuf::Message* message);

// The YAML spelling of a setting that is present; numbers in the shortest form that reads back.
std::string SettingText(const google::protobuf::Message& message,
                        const google::protobuf::FieldDescriptor& field);

// kInvalidArgument: more than 4096 bytes.
Status CheckTextSize(std::string_view text);

// kInvalidArgument: "200 is out of range; allowed is 0 to 100". Numbers must be finite, enums
// known, durations positive, text at most 4096 bytes.
Status CheckSettingRange(const google::protobuf::Message& message,
                         const google::protobuf::FieldDescriptor& field);

}  // namespace rollcall
