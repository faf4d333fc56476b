#include "services/common/template/chat_template.h"

#include <algorithm>
#include <utility>

#include "services/common/template/interpreter.h"
#include "services/common/template/json_value.h"
#include "services/common/template/operators.h"
#include "services/common/template/parser.h"
#include "services/common/template/text_search.h"
#include "services/common/template/unicode.h"

namespace rollcall {

using jinja::DictObject;
using jinja::Heap;
using jinja::Interpreter;
using jinja::Kind;
using jinja::Value;

struct ChatTemplate::Impl {
  std::string source;
  std::string origin;
  std::map<std::string, std::string> special_tokens;
  TemplateLimits limits;
  jinja::SyntaxTree tree;
};

namespace {

// Names under which reasoning is passed; templates read the first, older callers give the others.
constexpr std::string_view kReasoningFields[] = {"reasoning_content", "thinking", "reasoning"};
// What transformers puts behind the text that is continued, to find it in the rendering.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

Status NotA(std::string_view what, std::string_view expected, const Value& value) {
  return InvalidArgument(std::string(what) + ": expected " + std::string(expected) + ", got a " +
                         TypeName(value));
}

StatusOr<Value> ParseObjects(Heap& heap, std::string_view json, std::string_view what) {
  StatusOr<Value> value = jinja::ParseJson(heap, json);
  if (!value.ok()) return Annotate(value.status(), what);
  if (!value->is(Kind::kList)) return NotA(what, "a list of objects", *value);
  for (const Value& item : value->items()) {
    if (!item.is(Kind::kDict)) return NotA(what, "a list of objects", item);
  }
  return value;
}

// A message as transformers hands it over: without keys whose value is null, and with its reasoning
// under the names that templates read.
StatusOr<Value> NormalizeMessage(Heap& heap, const Value& message) {
  std::vector<DictObject::Entry> entries;
  for (const auto& entry : message.dict().entries) {
    if (!entry.second.is_none()) entries.push_back(entry);
  }
  const Value* reasoning = nullptr;
  for (const std::string_view field : kReasoningFields) {
    const Value* value = message.dict().FindText(field);
    if (value == nullptr || value->is_none()) continue;
    reasoning = value;
    break;
  }
  if (reasoning == nullptr) return heap.Dict(std::move(entries));
  ROLLCALL_ASSIGN_OR_RETURN(Value thinking, heap.String("thinking"));
  ROLLCALL_ASSIGN_OR_RETURN(Value content, heap.String("reasoning_content"));
  // A later entry replaces the value and keeps the place of the first.
  entries.insert(entries.begin(), {std::move(thinking), *reasoning});
  entries.emplace_back(std::move(content), *reasoning);
  return heap.Dict(std::move(entries));
}

// The same dict with one value replaced.
StatusOr<Value> WithEntry(Heap& heap, const Value& dict, std::string_view key, Value value) {
  std::vector<DictObject::Entry> entries = dict.dict().entries;
  for (auto& [have, old] : entries) {
    if (!have.is_string() || have.text() != key) continue;
    old = std::move(value);
    break;
  }
  return heap.Dict(std::move(entries));
}

// Puts the tag behind the last text of the message; *text becomes that text.
StatusOr<Value> TagMessage(Heap& heap, const Value& message, std::string* text) {
  const Value* content = message.dict().FindText("content");
  if (content == nullptr) {
    return InvalidArgument("continue_final_message: the last message has no content to continue");
  }
  if (content->is_string()) {
    *text = std::string(content->text());
    ROLLCALL_ASSIGN_OR_RETURN(Value tagged, heap.String(*text + std::string(kContinueTag)));
    return WithEntry(heap, message, "content", std::move(tagged));
  }
  if (!content->is(Kind::kList)) {
    return NotA("continue_final_message: content", "a text or a list of parts", *content);
  }
  std::vector<Value> parts = content->items();
  for (size_t i = parts.size(); i-- > 0;) {
    if (!parts[i].is(Kind::kDict)) continue;
    const Value* part = parts[i].dict().FindText("text");
    if (part == nullptr || !part->is_string()) continue;
    *text = std::string(part->text());
    ROLLCALL_ASSIGN_OR_RETURN(Value tagged, heap.String(*text + std::string(kContinueTag)));
    ROLLCALL_ASSIGN_OR_RETURN(parts[i], WithEntry(heap, parts[i], "text", std::move(tagged)));
    ROLLCALL_ASSIGN_OR_RETURN(Value list, heap.List(std::move(parts)));
    return WithEntry(heap, message, "content", std::move(list));
  }
  return InvalidArgument("continue_final_message: the last message has no text to continue");
}

// The rendering up to the tag.
Status CutAtTag(std::string_view final_text, std::string* rendered) {
  const std::string_view tag = jinja::Strip(kContinueTag, jinja::Side::kBoth);
  const size_t at = rendered->rfind(tag);
  const std::string_view stripped = jinja::Strip(final_text, jinja::Side::kBoth);
  if (at == std::string::npos || jinja::FindText(*rendered, stripped) == std::string::npos) {
    return InvalidArgument(
        "continue_final_message: the last message does not appear in the rendering, so it cannot "
        "be "
        "continued with this template");
  }
  const bool keeps_blanks = std::string_view(*rendered).substr(at).starts_with(kContinueTag);
  rendered->resize(at);
  if (!keeps_blanks) {
    rendered->resize(jinja::Strip(*rendered, jinja::Side::kRight).size());
  }
  return OkStatus();
}

// Byte offsets of character positions, which come in any order; past the end is the end.
std::vector<ByteSpan> ToBytes(std::string_view text,
                              const std::vector<jinja::GenerationSpan>& spans) {
  std::vector<int64_t> wanted;
  for (const auto& span : spans) {
    wanted.push_back(span.begin_char);
    wanted.push_back(span.end_char);
  }
  std::sort(wanted.begin(), wanted.end());
  std::map<int64_t, size_t> offsets;
  size_t offset = 0;
  int64_t chars = 0;
  for (const int64_t position : wanted) {
    offset += jinja::ByteOffset(text.substr(offset), position - chars);
    chars = position;
    offsets[position] = offset;
  }
  std::vector<ByteSpan> bytes;
  bytes.reserve(spans.size());
  for (const auto& span : spans) {
    bytes.push_back({offsets[span.begin_char], offsets[span.end_char]});
  }
  return bytes;
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

bool ChatTemplate::marks_assistant() const { return impl_->tree.has_generation; }
const std::string& ChatTemplate::source() const { return impl_->source; }
const std::string& ChatTemplate::origin() const { return impl_->origin; }
const std::map<std::string, std::string>& ChatTemplate::special_tokens() const {
  return impl_->special_tokens;
}

StatusOr<ChatTemplate> ChatTemplate::Parse(std::string source, std::string origin,
                                           std::map<std::string, std::string> special_tokens,
                                           const TemplateLimits& limits) {
  auto impl = std::make_unique<Impl>();
  StatusOr<jinja::SyntaxTree> tree = jinja::Parse(source, limits);
  if (!tree.ok()) return Annotate(tree.status(), origin);
  impl->tree = *std::move(tree);
  impl->source = std::move(source);
  impl->origin = std::move(origin);
  impl->special_tokens = std::move(special_tokens);
  impl->limits = limits;
  return ChatTemplate(std::move(impl));
}

namespace {

struct Prepared {
  std::vector<Value> messages;
  Value tools = Value::None();
  Value documents = Value::None();
  std::vector<std::pair<std::string, Value>> variables;
};

StatusOr<Prepared> Prepare(Heap& heap, const std::map<std::string, std::string>& special_tokens,
                           const ChatInput& input) {
  Prepared prepared;
  ROLLCALL_ASSIGN_OR_RETURN(const Value messages, ParseObjects(heap, input.messages, "messages"));
  if (messages.items().empty()) return InvalidArgument("messages: the conversation is empty");
  for (const Value& message : messages.items()) {
    ROLLCALL_ASSIGN_OR_RETURN(Value normal, NormalizeMessage(heap, message));
    prepared.messages.push_back(std::move(normal));
  }
  if (!input.tools.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(prepared.tools, ParseObjects(heap, input.tools, "tools"));
  }
  if (!input.documents.empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(prepared.documents, ParseObjects(heap, input.documents, "documents"));
  }
  for (const auto& [name, token] : special_tokens) {
    ROLLCALL_ASSIGN_OR_RETURN(Value text, heap.String(token));
    prepared.variables.emplace_back(name, std::move(text));
  }
  if (!input.variables.empty()) {
    StatusOr<Value> variables = jinja::ParseJson(heap, input.variables);
    if (!variables.ok()) return Annotate(variables.status(), "variables");
    if (!variables->is(Kind::kDict)) return NotA("variables", "an object", *variables);
    for (const auto& [key, value] : variables->dict().entries) {
      const std::string name(key.text());
      if (name == "messages" || name == "tools" || name == "documents" ||
          name == "add_generation_prompt") {
        return InvalidArgument("variables: '" + name + "' has a field of its own");
      }
      prepared.variables.emplace_back(name, value);
    }
  }
  return prepared;
}

void SetVariables(const Prepared& prepared, Value messages, bool add_generation_prompt,
                  Interpreter* interpreter) {
  interpreter->SetVariable("messages", std::move(messages));
  interpreter->SetVariable("tools", prepared.tools);
  interpreter->SetVariable("documents", prepared.documents);
  interpreter->SetVariable("add_generation_prompt", Value::Bool(add_generation_prompt));
  for (const auto& [name, value] : prepared.variables) interpreter->SetVariable(name, value);
}

}  // namespace

StatusOr<RenderedChat> ChatTemplate::Render(const ChatInput& input) const {
  if (input.continue_final_message && input.add_generation_prompt) {
    return InvalidArgument("continue_final_message does not go with add_generation_prompt");
  }
  Heap heap(impl_->limits);
  ROLLCALL_ASSIGN_OR_RETURN(Prepared prepared, Prepare(heap, impl_->special_tokens, input));
  std::string final_text;
  if (input.continue_final_message) {
    if (impl_->source.find("content") == std::string::npos) {
      return InvalidArgument(impl_->origin +
                             ": continue_final_message: the template reads no 'content'");
    }
    Value& last = prepared.messages.back();
    ROLLCALL_ASSIGN_OR_RETURN(last, TagMessage(heap, last, &final_text));
  }
  ROLLCALL_ASSIGN_OR_RETURN(Value messages, heap.List(prepared.messages));
  Interpreter interpreter(impl_->tree, heap, input.now);
  SetVariables(prepared, std::move(messages), input.add_generation_prompt, &interpreter);
  StatusOr<std::string> text = interpreter.Render();
  if (!text.ok()) return Annotate(text.status(), impl_->origin);
  RenderedChat rendered;
  rendered.text = *std::move(text);
  rendered.assistant_spans = ToBytes(rendered.text, interpreter.generation_spans());
  if (input.continue_final_message) {
    ROLLCALL_RETURN_IF_ERROR(CutAtTag(final_text, &rendered.text));
    for (ByteSpan& span : rendered.assistant_spans) {
      span.begin = std::min(span.begin, rendered.text.size());
      span.end = std::min(span.end, rendered.text.size());
    }
  }
  return rendered;
}

StatusOr<std::vector<std::string>> ChatTemplate::RenderPrefixes(const ChatInput& input) const {
  if (input.continue_final_message || input.add_generation_prompt) {
    return InvalidArgument(
        "the rendering of each message takes neither a generation prompt nor a message to "
        "continue");
  }
  Heap heap(impl_->limits);
  ROLLCALL_ASSIGN_OR_RETURN(const Prepared prepared, Prepare(heap, impl_->special_tokens, input));
  std::vector<std::string> texts;
  for (size_t count = 1; count <= prepared.messages.size(); ++count) {
    ROLLCALL_ASSIGN_OR_RETURN(
        Value messages,
        heap.List(std::vector<Value>(prepared.messages.begin(),
                                     prepared.messages.begin() + static_cast<ptrdiff_t>(count))));
    Interpreter interpreter(impl_->tree, heap, input.now);
    SetVariables(prepared, std::move(messages), false, &interpreter);
    StatusOr<std::string> text = interpreter.Render();
    if (!text.ok()) {
      return Annotate(text.status(),
                      impl_->origin + ", of the first " + std::to_string(count) + " messages");
    }
    if (!texts.empty() && !text->starts_with(texts.back())) {
      return FailedPrecondition(
          impl_->origin + ": message " + std::to_string(count - 1) +
          " changes how the messages before it are rendered, so that it cannot be told what it "
          "adds; a template with {% generation %} can");
    }
    texts.push_back(*std::move(text));
  }
  return texts;
}

void ChatTemplates::Add(const std::string& name,
                        std::shared_ptr<const ChatTemplate> chat_template) {
  by_name_[name] = std::move(chat_template);
}

std::vector<std::string> ChatTemplates::names() const {
  std::vector<std::string> names;
  names.reserve(by_name_.size());
  for (const auto& [name, unused] : by_name_) names.push_back(name);
  return names;
}

StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplates::Pick(std::string_view name,
                                                                  Tools tools) const {
  std::string wanted(name);
  if (name.empty()) {
    wanted = tools == Tools::kSome && by_name_.contains("tool_use") ? "tool_use" : "default";
  }
  const auto it = by_name_.find(wanted);
  if (it != by_name_.end()) return it->second;
  std::string known;
  for (const auto& [have, unused] : by_name_) known += (known.empty() ? "" : ", ") + have;
  return NotFound("there is no chat template '" + wanted + "'; there is " +
                  (known.empty() ? "none" : known));
}

}  // namespace rollcall
