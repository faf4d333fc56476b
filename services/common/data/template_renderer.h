// Conversations through the chat template of a model directory.
#pragma once

#include <memory>
#include <string>

#include "services/base/status/status.h"
#include "services/common/data/conversation_renderer.h"

namespace rollcall {

// Reads the templates of the directory: "tool_use" is taken for rows with tools where there is one,
// else "default". A template that asks for the date is told 26 July 2024, the day that the Llama
// templates fall back to: rows must come out the same when a job resumes on another day.
// kNotFound: the directory has no chat template. Errors of a template name its file and line.
StatusOr<std::unique_ptr<const ConversationRenderer>> LoadConversationRenderer(
    const std::string& model_directory);

}  // namespace rollcall
