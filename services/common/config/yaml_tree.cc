#include "services/common/config/yaml_tree.h"

#include <map>
#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

namespace rollcall {
namespace {

// Leaves the parser from inside a callback; never leaves this file.
struct ParseAbort {
  YAML::Mark mark;
  std::string message;
};

int CountNodes(const YamlNode& node) {
  int count = 1;
  for (const YamlNode& item : node.items) count += CountNodes(item);
  for (const YamlNode::Entry& entry : node.entries) count += 1 + CountNodes(entry.value);
  return count;
}

int Depth(const YamlNode& node) {
  int depth = 0;
  for (const YamlNode& item : node.items) depth = std::max(depth, Depth(item));
  for (const YamlNode::Entry& entry : node.entries) depth = std::max(depth, Depth(entry.value));
  return depth + 1;
}

class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string source, const YamlLimits& limits)
      : source_(std::move(source)), limits_(limits) {}

  YamlNode TakeRoot() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add(mark, anchor, MakeNode(mark, YamlNode::Kind::kNull));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    RefuseTag(mark, tag);
    YamlNode node = MakeNode(mark, YamlNode::Kind::kScalar);
    node.text = value;
    Add(mark, anchor, std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw ParseAbort{mark, "an alias inside its own anchor"};
    num_nodes_ += CountNodes(found->second);
    CheckCount(mark);
    if (static_cast<int>(stack_.size()) + Depth(found->second) > limits_.max_depth) TooDeep(mark);
    Add(mark, YAML::NullAnchor, found->second);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    RefuseTag(mark, tag);
    Push(mark, anchor, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { Pop(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    RefuseTag(mark, tag);
    Push(mark, anchor, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { Pop(); }

 private:
  struct Frame {
    YamlNode node;
    YAML::Mark mark;
    YAML::anchor_t anchor;
    bool has_key = false;
    std::string key;
    SourcePlace key_place;
  };

  YamlNode MakeNode(const YAML::Mark& mark, YamlNode::Kind kind) {
    ++num_nodes_;
    CheckCount(mark);
    YamlNode node;
    node.kind = kind;
    node.place = {source_, mark.line + 1};
    return node;
  }

  void CheckCount(const YAML::Mark& mark) const {
    if (num_nodes_ > limits_.max_nodes) {
      throw ParseAbort{
          mark, "more than " + std::to_string(limits_.max_nodes) + " values, aliases expanded"};
    }
  }

  [[noreturn]] void TooDeep(const YAML::Mark& mark) const {
    throw ParseAbort{mark, "nested deeper than " + std::to_string(limits_.max_depth) + " levels"};
  }

  static void RefuseTag(const YAML::Mark& mark, const std::string& tag) {
    // "?" is a plain value and "!" a quoted one.
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw ParseAbort{mark, "tags such as '" + tag + "' are not used in job files"};
    }
  }

  void Push(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind) {
    if (static_cast<int>(stack_.size()) >= limits_.max_depth) TooDeep(mark);
    Frame frame;
    frame.node = MakeNode(mark, kind);
    frame.mark = mark;
    frame.anchor = anchor;
    stack_.push_back(std::move(frame));
  }

  void Pop() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    Add(frame.mark, frame.anchor, std::move(frame.node));
  }

  void Add(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode node) {
    if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& parent = stack_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      if (node.kind != YamlNode::Kind::kScalar) {
        throw ParseAbort{mark, "a key must be a word, got " + YamlKindText(node)};
      }
      parent.has_key = true;
      parent.key = std::move(node.text);
      parent.key_place = {source_, mark.line + 1};
    } else {
      parent.has_key = false;
      parent.node.entries.push_back(
          {std::move(parent.key), std::move(parent.key_place), std::move(node)});
    }
  }

  const std::string source_;
  const YamlLimits limits_;
  int num_nodes_ = 0;
  std::vector<Frame> stack_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  YamlNode root_;
};

// Byte offset of the first byte that is not part of valid UTF-8 (or is NUL), npos when all is well.
size_t FirstBadByte(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const unsigned char lead = text[i];
    if (lead == 0) return i;
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const int length = lead >= 0xC2 && lead <= 0xDF   ? 2
                       : lead >= 0xE0 && lead <= 0xEF ? 3
                       : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                      : 0;
    if (length == 0 || i + length > text.size()) return i;
    for (int k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return i;
    }
    const unsigned char second = text[i + 1];
    // Overlong forms, surrogates and code points past U+10FFFF.
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) {
      return i;
    }
    i += length;
  }
  return std::string_view::npos;
}

// Line of the first indentation that has a tab in it, up to `last_line`; 0 when there is none.
int LineWithTab(std::string_view text, int last_line) {
  int line = 1;
  bool is_indentation = true;
  for (const char c : text) {
    if (c == '\n') {
      ++line;
      is_indentation = true;
    } else if (c == '\t' && is_indentation && line <= last_line) {
      return line;
    } else if (c != ' ') {
      is_indentation = false;
    }
  }
  return 0;
}

Status At(const std::string& source, const YAML::Mark& mark, std::string_view message) {
  return InvalidArgument(source + ":" + std::to_string(mark.line + 1) + ":" +
                         std::to_string(mark.column + 1) + ": " + std::string(message));
}

}  // namespace

StatusOr<YamlNode> ParseYaml(std::string_view text, const std::string& source,
                             const YamlLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return InvalidArgument(source + ": " + std::to_string(text.size()) + " bytes; at most " +
                           std::to_string(limits.max_bytes) + " are read");
  }
  if (const size_t bad = FirstBadByte(text); bad != std::string_view::npos) {
    int line = 1;
    for (const char c : text.substr(0, bad)) line += c == '\n' ? 1 : 0;
    return InvalidArgument(source + ":" + std::to_string(line) +
                           ": not UTF-8 text; save the file as UTF-8");
  }
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    TreeBuilder builder(source, limits);
    parser.HandleNextDocument(builder);
    TreeBuilder rest(source, limits);
    if (parser.HandleNextDocument(rest)) {
      return InvalidArgument(rest.TakeRoot().place.Text() +
                             ": a second document; a job file is one document");
    }
    return builder.TakeRoot();
  } catch (const ParseAbort& abort) {
    return At(source, abort.mark, abort.message);
  } catch (const YAML::Exception& error) {
    if (const int line = LineWithTab(text, error.mark.line + 1); line > 0) {
      return InvalidArgument(source + ":" + std::to_string(line) +
                             ":1: not valid YAML: the line is indented with a tab; use spaces");
    }
    if (error.mark.is_null()) return InvalidArgument(source + ": not valid YAML: " + error.msg);
    return At(source, error.mark, "not valid YAML: " + error.msg);
  } catch (const std::exception& error) {
    return InvalidArgument(source + ": not valid YAML: " + error.what());
  }
}

std::string YamlKindText(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return "'" + (node.text.size() > 60 ? node.text.substr(0, 57) + "..." : node.text) + "'";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a mapping";
  }
  return "";
}

}  // namespace rollcall
