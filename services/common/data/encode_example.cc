#include "services/common/data/encode_example.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "services/common/data/conversation.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

using SpecialTokens = Tokenizer::SpecialTokens;

bool Overlaps(const ByteRange& token, std::span<const ByteRange> ranges) {
  const auto next = std::partition_point(ranges.begin(), ranges.end(), [&](const ByteRange& range) {
    return range.end <= token.begin;
  });
  return next != ranges.end() && next->begin < token.end;
}

// Appends a token to the run that it belongs to.
void AddToken(int32_t id, bool trains, TokenRuns* runs) {
  if (runs->empty() || runs->back().trains != trains) runs->push_back({{}, trains});
  runs->back().tokens.push_back(id);
}

// Context after the last token that trains changes nothing.
void DropTail(TokenRuns* runs) {
  if (!runs->empty() && !runs->back().trains) runs->pop_back();
}

// A prompt with one completion behind it.
struct Whole {
  std::string text;
  std::vector<ByteRange> assistant;
  bool trains_whole = true;  // the completion; else only where `assistant` says so
};

struct Parts {
  std::vector<int32_t> prompt;
  EncodedText completion;  // ranges of the whole
};

// Whether no token lies across the cut.
StatusOr<bool> CutTokens(const Tokenizer& tokenizer, const Whole& whole, size_t cut,
                         SpecialTokens special, Parts* parts) {
  ROLLCALL_ASSIGN_OR_RETURN(const EncodedText text,
                            tokenizer.EncodeWithOffsets(whole.text, special));
  size_t first = 0;
  while (first < text.ids.size() && text.ranges[first].end <= cut) ++first;
  const auto middle = static_cast<std::ptrdiff_t>(first);
  parts->prompt.assign(text.ids.begin(), text.ids.begin() + middle);
  parts->completion.ids.assign(text.ids.begin() + middle, text.ids.end());
  parts->completion.ranges.assign(text.ranges.begin() + middle, text.ranges.end());
  return std::all_of(parts->completion.ranges.begin(), parts->completion.ranges.end(),
                     [&](const ByteRange& range) { return range.begin >= cut; });
}

// Tokens of the whole text are those that a model reads elsewhere, so they are taken where they can
// be cut, and cut to one prompt. Else the parts are encoded alone, as when a completion is sampled
// behind the prompt.
StatusOr<std::vector<Parts>> EncodeParts(const Tokenizer& tokenizer,
                                         const std::vector<Whole>& wholes, size_t cut,
                                         SpecialTokens special) {
  std::vector<Parts> all(wholes.size());
  bool clean = true;
  for (size_t i = 0; i < wholes.size() && clean; ++i) {
    ROLLCALL_ASSIGN_OR_RETURN(clean, CutTokens(tokenizer, wholes[i], cut, special, &all[i]));
    clean = clean && all[i].prompt == all[0].prompt;
  }
  if (clean) return all;
  for (size_t i = 0; i < wholes.size(); ++i) {
    const std::string_view text = wholes[i].text;
    ROLLCALL_ASSIGN_OR_RETURN(all[i].prompt, tokenizer.Encode(text.substr(0, cut), special));
    ROLLCALL_ASSIGN_OR_RETURN(all[i].completion,
                              tokenizer.EncodeWithOffsets(text.substr(cut), special));
    for (ByteRange& range : all[i].completion.ranges) {
      range.begin += static_cast<uint32_t>(cut);
      range.end += static_cast<uint32_t>(cut);
    }
  }
  return all;
}

RowJson Joined(const RowJson& a, const RowJson& b) {
  RowJson messages = a;
  for (const RowJson& message : b) messages.push_back(message);
  return messages;
}

size_t CommonBytes(std::string_view a, std::string_view b) {
  const auto [in_a, in_b] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return TruncateUtf8(a, static_cast<size_t>(in_a - a.begin())).size();
}

class Encoder {
 public:
  explicit Encoder(const ExampleEncoding& encoding) : encoding_(encoding) {}

  StatusOr<EncodedExample> Encode(const Example& example) {
    switch (example.shape) {
      case ExampleShape::kPrompt: {
        EncodedExample out;
        ROLLCALL_ASSIGN_OR_RETURN(out.prompt, Prompt(example));
        return out;
      }
      case ExampleShape::kText:
        return WholeText(example);
      case ExampleShape::kMessages:
        return WholeConversation(example);
      default:
        return PromptAndCompletions(example);
    }
  }

 private:
  template <typename T>
  static StatusOr<T> OfTemplate(StatusOr<T> rendered) {
    if (rendered.ok()) return rendered;
    return InvalidArgument("chat template: " + Message(rendered.status()));
  }

  Status CheckRenderer() const {
    if (encoding_.renderer != nullptr) return OkStatus();
    return InvalidArgument("the row is a conversation, and " + encoding_.why_no_renderer);
  }

  StatusOr<std::string> Render(const RowJson& messages, const RowJson& tools,
                               ConversationEnding ending) const {
    ROLLCALL_RETURN_IF_ERROR(CheckRenderer());
    return OfTemplate(encoding_.renderer->Render(messages, tools, ending));
  }

  StatusOr<RenderedConversation> RenderMarked(const RowJson& messages, const RowJson& tools) const {
    ROLLCALL_RETURN_IF_ERROR(CheckRenderer());
    return OfTemplate(encoding_.renderer->RenderMarked(messages, tools));
  }

  StatusOr<std::vector<int32_t>> Prompt(const Example& example) const {
    std::vector<int32_t> ids;
    if (!example.prompt.is_conversation()) {
      ROLLCALL_ASSIGN_OR_RETURN(
          ids, encoding_.tokenizer.Encode(example.prompt.text, SpecialTokens::kAsText));
    } else {
      const bool goes_on = IsAssistant(example.prompt.messages.back());
      ROLLCALL_ASSIGN_OR_RETURN(
          const std::string text,
          Render(example.prompt.messages, example.tools,
                 goes_on ? ConversationEnding::kOpen : ConversationEnding::kGenerationPrompt));
      ROLLCALL_ASSIGN_OR_RETURN(ids, encoding_.tokenizer.Encode(text, SpecialTokens::kParse));
    }
    if (ids.empty()) return InvalidArgument("the prompt is empty");
    return ids;
  }

  StatusOr<EncodedExample> PromptAndCompletions(const Example& example) const {
    const bool conversational = example.prompt.is_conversation();
    std::vector<Whole> wholes;
    size_t cut = example.prompt.text.size();
    if (conversational) {
      ROLLCALL_ASSIGN_OR_RETURN(cut, RenderWholes(example, &wholes));
    } else {
      for (const Content& completion : example.completions) {
        wholes.push_back({example.prompt.text + completion.text, {}, true});
      }
    }
    ROLLCALL_ASSIGN_OR_RETURN(
        std::vector<Parts> parts,
        EncodeParts(encoding_.tokenizer, wholes, cut,
                    conversational ? SpecialTokens::kParse : SpecialTokens::kAsText));
    EncodedExample out;
    out.prompt = std::move(parts.front().prompt);
    if (out.prompt.empty()) return InvalidArgument("the prompt is empty");
    for (size_t i = 0; i < wholes.size(); ++i) {
      TokenRuns& runs = out.completions.emplace_back();
      EncodedText& completion = parts[i].completion;
      if (!conversational && encoding_.end_token >= 0) {
        completion.ids.push_back(encoding_.end_token);
      }
      if (completion.ids.empty()) return InvalidArgument("the completion is empty");
      if (wholes[i].trains_whole) {
        runs.push_back({std::move(completion.ids), true});
        continue;
      }
      ROLLCALL_RETURN_IF_ERROR(AddMasked(completion, wholes[i].assistant, nullptr, &runs));
    }
    return out;
  }

  // The prompt with each completion, and how many bytes of all of them are the prompt.
  StatusOr<size_t> RenderWholes(const Example& example, std::vector<Whole>* wholes) const {
    const RowJson& before = example.prompt.messages;
    ROLLCALL_ASSIGN_OR_RETURN(
        const std::string start,
        Render(before, example.tools,
               IsAssistant(before.back()) ? ConversationEnding::kAsIs
                                          : ConversationEnding::kGenerationPrompt));
    size_t cut = start.size();
    for (const Content& completion : example.completions) {
      const RowJson all = Joined(before, completion.messages);
      Whole whole;
      whole.trains_whole =
          std::all_of(completion.messages.begin(), completion.messages.end(), IsAssistant);
      if (whole.trains_whole) {
        ROLLCALL_ASSIGN_OR_RETURN(whole.text,
                                  Render(all, example.tools, ConversationEnding::kAsIs));
      } else {
        ROLLCALL_ASSIGN_OR_RETURN(RenderedConversation marked, RenderMarked(all, example.tools));
        whole.text = std::move(marked.text);
        whole.assistant = std::move(marked.assistant);
      }
      cut = std::min(cut, CommonBytes(start, whole.text));
      wholes->push_back(std::move(whole));
    }
    if (cut < start.size()) {
      // Some templates begin a new message of the assistant with what a given one need not have,
      // such as an open thought. The prompt itself must not change.
      ROLLCALL_ASSIGN_OR_RETURN(const std::string bare,
                                Render(before, example.tools, ConversationEnding::kAsIs));
      if (cut < bare.size()) {
        return InvalidArgument(
            "the chat template changes the prompt when a completion follows; the row cannot be "
            "cut into both");
      }
    }
    return cut;
  }

  // Without a prompt yet, tokens before the first that trains go to it.
  static Status AddMasked(const EncodedText& text, std::span<const ByteRange> assistant,
                          std::vector<int32_t>* prompt, TokenRuns* runs) {
    for (size_t i = 0; i < text.ids.size(); ++i) {
      const bool trains = Overlaps(text.ranges[i], assistant);
      // Nothing predicts the first token of all.
      if (prompt != nullptr && ((runs->empty() && !trains) || prompt->empty())) {
        prompt->push_back(text.ids[i]);
      } else {
        AddToken(text.ids[i], trains, runs);
      }
    }
    DropTail(runs);
    if (runs->empty()) {
      return InvalidArgument("no message of the assistant to train on");
    }
    return OkStatus();
  }

  StatusOr<EncodedExample> WholeConversation(const Example& example) const {
    ROLLCALL_ASSIGN_OR_RETURN(const RenderedConversation rendered,
                              RenderMarked(example.completions.front().messages, example.tools));
    ROLLCALL_ASSIGN_OR_RETURN(const EncodedText text, encoding_.tokenizer.EncodeWithOffsets(
                                                          rendered.text, SpecialTokens::kParse));
    EncodedExample out;
    ROLLCALL_RETURN_IF_ERROR(
        AddMasked(text, rendered.assistant, &out.prompt, &out.completions.emplace_back()));
    return out;
  }

  StatusOr<EncodedExample> WholeText(const Example& example) const {
    ROLLCALL_ASSIGN_OR_RETURN(
        std::vector<int32_t> ids,
        encoding_.tokenizer.Encode(example.completions.front().text, SpecialTokens::kAsText));
    if (ids.empty()) return InvalidArgument("the text is empty");
    if (encoding_.end_token >= 0) ids.push_back(encoding_.end_token);
    if (ids.size() < 2) return InvalidArgument("the text is one token long: nothing predicts it");
    EncodedExample out;
    out.prompt = {ids.front()};
    out.completions = {{{{ids.begin() + 1, ids.end()}, true}}};
    return out;
  }

  const ExampleEncoding& encoding_;
};

}  // namespace

int64_t NumTokens(const TokenRuns& runs) {
  int64_t count = 0;
  for (const TokenRun& run : runs) count += static_cast<int64_t>(run.tokens.size());
  return count;
}

StatusOr<EncodedExample> EncodeExample(const Example& example, const ExampleEncoding& encoding) {
  return Encoder(encoding).Encode(example);
}

}  // namespace rollcall
