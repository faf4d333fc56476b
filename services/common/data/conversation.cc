#include "services/common/data/conversation.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace rollcall {
namespace {

constexpr std::array<std::string_view, 8> kRoles = {
    "system", "developer", "user", "assistant", "tool", "function", "ipython", "environment"};

std::string RoleNames() {
  std::string names;
  for (size_t i = 0; i < kRoles.size(); ++i) {
    if (i > 0) names += i + 1 == kRoles.size() ? " or " : ", ";
    names += kRoles[i];
  }
  return names;
}

bool HasToolCalls(const RowJson& message) {
  const auto calls = message.find("tool_calls");
  return calls != message.end() && calls->is_array() && !calls->empty();
}

Status CheckContent(const RowJson& message) {
  const auto content = message.find("content");
  if (content == message.end()) {
    if (HasToolCalls(message)) return OkStatus();
    return InvalidArgument("'content' is missing; expected a text");
  }
  if (content->is_string()) return OkStatus();
  if (!content->is_array()) {
    return InvalidArgument(std::string("'content' is not a text but ") + content->type_name());
  }
  for (const RowJson& part : *content) {
    const bool is_text = part.is_object() && part.value("type", RowJson()) == "text" &&
                         part.value("text", RowJson()).is_string();
    if (!is_text) {
      return InvalidArgument(
          "a part of 'content' is no text; expected {\"type\": \"text\", \"text\": ...}, other "
          "media are not supported");
    }
  }
  return OkStatus();
}

Status CheckMessage(const RowJson& message) {
  if (!message.is_object()) {
    return InvalidArgument(std::string("expected {\"role\", \"content\"}, got ") +
                           message.type_name());
  }
  const auto role = message.find("role");
  if (role == message.end()) {
    const bool is_sharegpt = message.contains("from") && message.contains("value");
    return InvalidArgument(
        is_sharegpt ? "'role' is missing; messages with 'from' and 'value' must be stored as "
                      "'role' and 'content'"
                    : "'role' is missing; expected " + RoleNames());
  }
  if (!role->is_string()) {
    return InvalidArgument(std::string("'role' is not a text but ") + role->type_name());
  }
  const auto& name = role->get_ref<const std::string&>();
  if (std::find(kRoles.begin(), kRoles.end(), name) == kRoles.end()) {
    return InvalidArgument("unknown role '" + name.substr(0, 64) + "'; expected " + RoleNames());
  }
  return CheckContent(message);
}

}  // namespace

bool LooksLikeConversation(const RowJson& value) {
  return value.is_array() &&
         std::all_of(value.begin(), value.end(), [](const RowJson& m) { return m.is_object(); });
}

RowJson WithoutNulls(const RowJson& value) {
  if (value.is_object()) {
    RowJson kept = RowJson::object();
    for (const auto& [key, entry] : value.items()) {
      if (!entry.is_null()) kept[key] = WithoutNulls(entry);
    }
    return kept;
  }
  if (value.is_array()) {
    RowJson kept = RowJson::array();
    for (const RowJson& item : value) kept.push_back(WithoutNulls(item));
    return kept;
  }
  return value;
}

StatusOr<RowJson> ReadConversation(const RowJson& value) {
  if (!value.is_array()) {
    return InvalidArgument(std::string("expected a list of messages, got ") + value.type_name());
  }
  if (value.empty()) return InvalidArgument("the list of messages is empty");
  if (value.size() > kMaxMessages) {
    return InvalidArgument(std::to_string(value.size()) + " messages, the limit is " +
                           std::to_string(kMaxMessages));
  }
  RowJson messages = WithoutNulls(value);
  for (size_t i = 0; i < messages.size(); ++i) {
    const Status checked = CheckMessage(messages[i]);
    if (!checked.ok()) return Annotate(checked, "message " + std::to_string(i + 1));
  }
  return messages;
}

size_t CommonPrefix(const RowJson& a, const RowJson& b) {
  const size_t shorter = std::min(a.size(), b.size());
  size_t count = 0;
  while (count < shorter && a[count] == b[count]) ++count;
  return count;
}

RowJson Messages(const RowJson& conversation, size_t begin, size_t end) {
  RowJson messages = RowJson::array();
  for (size_t i = begin; i < end; ++i) messages.push_back(conversation[i]);
  return messages;
}

bool IsAssistant(const RowJson& message) { return message.value("role", "") == "assistant"; }

}  // namespace rollcall
