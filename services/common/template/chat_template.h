// Chat templates of Hugging Face model directories, rendered as `transformers` renders them.
//
//   LoadChatTemplates(directory) -> ChatTemplates::Pick(name, tools?) -> ChatTemplate::Render(...)
//
// docs/chat_templates.md says what is supported and how it is compared.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "services/base/status/status.h"
#include "services/common/template/civil_time.h"
#include "services/common/template/limits.h"

namespace rollcall {

struct ChatInput {
  std::string_view messages;   // JSON: a list of objects
  std::string_view tools;      // JSON: a list of objects; empty: none
  std::string_view documents;  // JSON: a list of objects; empty: none
  std::string_view variables;  // JSON: an object of further variables; empty: none
  bool add_generation_prompt = false;
  // The text ends inside of the last message, so that it is continued. Not with a generation
  // prompt.
  bool continue_final_message = false;
  // What strftime_now() tells; a template that asks without it is an error.
  std::optional<CivilTime> now;
};

// Bytes [begin, end) of the text.
struct ByteSpan {
  size_t begin = 0, end = 0;
};

struct RenderedChat {
  std::string text;
  // What {% generation %} wrote: the assistant's own words, in the order of the template.
  std::vector<ByteSpan> assistant_spans;
};

// One template, parsed. Immutable; any number of threads may render at once.
class ChatTemplate {
 public:
  // `origin` names the template in errors. `special_tokens`: bos_token, eos_token and so on.
  // kInvalidArgument: a syntax error, with its line; kUnimplemented: a part of jinja2 that is not
  // supported; kResourceExhausted: a limit.
  static StatusOr<ChatTemplate> Parse(std::string source, std::string origin,
                                      std::map<std::string, std::string> special_tokens,
                                      const TemplateLimits& limits = {});
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // kInvalidArgument: the input is no such JSON, or the template fails on it, with the line;
  // kFailedPrecondition: the template refuses the conversation by raise_exception();
  // kResourceExhausted: a limit.
  StatusOr<RenderedChat> Render(const ChatInput& input) const;
  // The text up to and with each message: element i is the rendering of the first i + 1. The
  // generation prompt is added to none. kFailedPrecondition: some rendering is not how the next one
  // begins, so that it cannot be told what a message adds.
  StatusOr<std::vector<std::string>> RenderPrefixes(const ChatInput& input) const;

  // Whether it marks what the assistant says with {% generation %}.
  bool marks_assistant() const;
  const std::string& source() const;
  const std::string& origin() const;
  const std::map<std::string, std::string>& special_tokens() const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

// The templates of a model, by name; most have one, "default".
class ChatTemplates {
 public:
  void Add(const std::string& name, std::shared_ptr<const ChatTemplate> chat_template);
  bool empty() const { return by_name_.empty(); }
  std::vector<std::string> names() const;
  // By name; without a name, "tool_use" when there are tools and it exists, else "default".
  // kNotFound names what there is.
  enum class Tools { kNone, kSome };
  StatusOr<std::shared_ptr<const ChatTemplate>> Pick(std::string_view name, Tools tools) const;

 private:
  std::map<std::string, std::shared_ptr<const ChatTemplate>> by_name_;
};

// Of a model directory: chat_template.jinja and additional_chat_templates/*.jinja, else
// "chat_template" of tokenizer_config.json; special tokens from tokenizer_config.json, then
// special_tokens_map.json. kNotFound: the directory has no template.
StatusOr<ChatTemplates> LoadChatTemplates(const std::string& directory,
                                          const TemplateLimits& limits = {});

}  // namespace rollcall
