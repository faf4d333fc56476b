#include "services/cli/proto_json.h"

#include <map>

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/util/time_util.h>

namespace rollcall {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;
using google::protobuf::util::TimeUtil;
using Json = nlohmann::ordered_json;
using ProtoMessage = google::protobuf::Message;

Json EnumJson(const FieldDescriptor& field, int number) {
  const auto* value = field.enum_type()->FindValueByNumber(number);
  return value == nullptr ? Json(number) : Json(value->name());
}

Json MessageJson(const ProtoMessage& message) {
  if (message.GetDescriptor() == google::protobuf::Timestamp::descriptor()) {
    return TimeUtil::ToString(static_cast<const google::protobuf::Timestamp&>(message));
  }
  if (message.GetDescriptor() == google::protobuf::Duration::descriptor()) {
    const auto& duration = static_cast<const google::protobuf::Duration&>(message);
    return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
  }
  return ToJson(message);
}

Json ScalarJson(const ProtoMessage& message, const FieldDescriptor& field) {
  const Reflection& r = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return r.GetInt64(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.GetUInt64(message, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r.GetFloat(message, &field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumJson(field, r.GetEnumValue(message, &field));
    case FieldDescriptor::CPPTYPE_STRING:
      return r.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MessageJson(r.GetMessage(message, &field));
  }
  return nullptr;
}

Json ItemJson(const ProtoMessage& message, const FieldDescriptor& field, int i) {
  const Reflection& r = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.GetRepeatedInt32(message, &field, i);
    case FieldDescriptor::CPPTYPE_INT64:
      return r.GetRepeatedInt64(message, &field, i);
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.GetRepeatedUInt32(message, &field, i);
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.GetRepeatedUInt64(message, &field, i);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.GetRepeatedDouble(message, &field, i);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r.GetRepeatedFloat(message, &field, i);
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.GetRepeatedBool(message, &field, i);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumJson(field, r.GetRepeatedEnumValue(message, &field, i));
    case FieldDescriptor::CPPTYPE_STRING:
      return r.GetRepeatedString(message, &field, i);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MessageJson(r.GetRepeatedMessage(message, &field, i));
  }
  return nullptr;
}

}  // namespace

Json ToJson(const ProtoMessage& message) {
  Json json = Json::object();
  const auto& type = *message.GetDescriptor();
  const Reflection& reflection = *message.GetReflection();
  for (int f = 0; f < type.field_count(); ++f) {
    const FieldDescriptor& field = *type.field(f);
    if (field.is_map()) {
      std::map<std::string, Json> sorted;  // protobuf maps have no order
      for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
        const ProtoMessage& entry = reflection.GetRepeatedMessage(message, &field, i);
        const auto& entry_type = *entry.GetDescriptor();
        const Json key = ScalarJson(entry, *entry_type.field(0));
        sorted[key.is_string() ? key.get<std::string>() : key.dump()] =
            ScalarJson(entry, *entry_type.field(1));
      }
      Json map = Json::object();
      for (auto& [key, value] : sorted) map[key] = std::move(value);
      json[field.name()] = std::move(map);
    } else if (field.is_repeated()) {
      Json list = Json::array();
      for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
        list.push_back(ItemJson(message, field, i));
      }
      json[field.name()] = std::move(list);
    } else if (!field.has_presence() || reflection.HasField(message, &field)) {
      json[field.name()] = ScalarJson(message, field);
    }
  }
  return json;
}

std::string JsonText(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace rollcall
