// Conversations as rows hold them: a list of {"role": ..., "content": ...}.
#pragma once

#include <cstddef>
#include <string>

#include "services/base/status/status.h"
#include "services/common/data/row_json.h"

namespace rollcall {

// Most messages in one conversation.
constexpr size_t kMaxMessages = 4096;

// Whether a value looks like a conversation: a list of objects. Its messages may still be wrong.
bool LooksLikeConversation(const RowJson& value);

// Checks the messages and takes out their null entries, which Parquet writes for keys that only
// other messages have. A message has a known role (system, developer, user, assistant, tool,
// function, ipython, environment), and content: a text, a list of {"type": "text", "text": ...}, or
// none when it has tool_calls. kInvalidArgument: "message 3: ..." (from 1) with what would be
// right; an empty list.
StatusOr<RowJson> ReadConversation(const RowJson& value);

// Takes out entries that are null, at every depth; items of lists stay.
RowJson WithoutNulls(const RowJson& value);

// Number of messages at the start that are equal in both.
size_t CommonPrefix(const RowJson& a, const RowJson& b);

// The messages [begin, end).
RowJson Messages(const RowJson& conversation, size_t begin, size_t end);

bool IsAssistant(const RowJson& message);

}  // namespace rollcall
