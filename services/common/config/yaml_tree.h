// A YAML document as a plain tree that remembers where everything stood. Bounded, so that no file
// can make it large: size, depth and number of nodes after aliases are expanded.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/base/status/status.h"

namespace rollcall {

// Where a value was written: "job.yaml:12", or an override "--set a.b=c" with line 0.
struct SourcePlace {
  std::string source;
  int line = 0;  // from 1; 0 when there is none
  std::string Text() const { return line > 0 ? source + ":" + std::to_string(line) : source; }
};

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  struct Entry;

  Kind kind = Kind::kNull;
  std::string text;  // of a scalar
  SourcePlace place;
  std::vector<YamlNode> items;  // of a list
  // Of a map, in the order of the file; a key that stands twice is here twice.
  std::vector<Entry> entries;
};

struct YamlNode::Entry {
  std::string key;
  SourcePlace key_place;
  YamlNode value;
};

struct YamlLimits {
  size_t max_bytes = 256 << 10;
  int max_depth = 16;
  int max_nodes = 20'000;
};

// Parses one document; an empty one is a null node.
// kInvalidArgument: "job.yaml:3:7: ..." for bad syntax, text that is not UTF-8, a second document,
// a key that is no scalar, an explicit tag, or a limit.
StatusOr<YamlNode> ParseYaml(std::string_view text, const std::string& source,
                             const YamlLimits& limits = {});

// "text", "a list", "a mapping" or "nothing": for messages.
std::string YamlKindText(const YamlNode& node);

}  // namespace rollcall
