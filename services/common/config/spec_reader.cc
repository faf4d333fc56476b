#include "services/common/config/spec_reader.h"

#include <charconv>
#include <set>

#include "services/common/config/nearest_key.h"
#include "services/common/config/spec_fields.h"

namespace rollcall {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using ProtoMessage = google::protobuf::Message;
using google::protobuf::Reflection;

std::string Join(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

// "rollout" -> "section 'rollout'"; paths of every message below `type` that has the key.
void FindKey(const Descriptor& type, const std::string& path, const std::string& key,
             std::vector<std::string>* found) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.name() == key) found->push_back(path);
    if (IsSection(field)) FindKey(*field.message_type(), Join(path, field.name()), key, found);
  }
}

class Reader {
 public:
  SpecReading Read(const YamlNode& root) {
    if (root.kind == YamlNode::Kind::kNull) return std::move(reading_);
    ReadSection(root, "", &reading_.spec);
    return std::move(reading_);
  }

 private:
  void Problem(const SourcePlace& place, const std::string& path, std::string message) {
    reading_.problems.push_back({place, {path, std::move(message)}});
  }

  void ReadSection(const YamlNode& node, const std::string& path, ProtoMessage* message) {
    if (node.kind == YamlNode::Kind::kNull) return;
    if (node.kind != YamlNode::Kind::kMap) {
      Problem(node.place, path.empty() ? "(file)" : path,
              "expected a mapping of keys to values, got " + YamlKindText(node));
      return;
    }
    const Descriptor& type = *message->GetDescriptor();
    std::map<std::string, SourcePlace> seen;
    for (const YamlNode::Entry& entry : node.entries) {
      const std::string key_path = Join(path, entry.key);
      const auto [first, is_new] = seen.emplace(entry.key, entry.key_place);
      if (!is_new) {
        Problem(entry.key_place, key_path, "given twice; the first is at " + first->second.Text());
        continue;
      }
      const FieldDescriptor* field = type.FindFieldByName(entry.key);
      if (field == nullptr) {
        Problem(entry.key_place, key_path, UnknownKey(type, path, entry.key));
        continue;
      }
      reading_.places[key_path] = entry.key_place;
      if (entry.value.kind == YamlNode::Kind::kNull) {
        if (entry.key_place.line == 0) continue;  // taken out by an override
        // YAML finds nothing only after looking on the next line.
        ReadField(YamlNode{YamlNode::Kind::kNull, "", entry.key_place, {}, {}}, key_path, *field,
                  message);
        continue;
      }
      ReadField(entry.value, key_path, *field, message);
    }
  }

  void ReadField(const YamlNode& node, const std::string& path, const FieldDescriptor& field,
                 ProtoMessage* message) {
    const Reflection& reflection = *message->GetReflection();
    if (field.is_map()) {
      ReadMap(node, path, field, message);
    } else if (field.is_repeated() && IsSection(field)) {
      ReadList(node, path, field, message);
    } else if (field.is_repeated()) {
      ReadTexts(node, path, field, message);
    } else if (IsSection(field)) {
      ReadSection(node, path, reflection.MutableMessage(message, &field));
    } else if (node.kind != YamlNode::Kind::kScalar) {
      Problem(node.place, path, "expected " + WithArticle(field) + ", got " + YamlKindText(node));
    } else if (const Status status = SetSetting(node.text, field, message); !status.ok()) {
      Problem(node.place, path, std::string(status.message()));
    }
  }

  void ReadList(const YamlNode& node, const std::string& path, const FieldDescriptor& field,
                ProtoMessage* message) {
    if (node.kind == YamlNode::Kind::kNull) return;
    if (node.kind != YamlNode::Kind::kList) {
      Problem(node.place, path,
              "expected a list (\"- type: ...\" for each item), got " + YamlKindText(node));
      return;
    }
    for (size_t i = 0; i < node.items.size(); ++i) {
      const std::string item_path = path + "[" + std::to_string(i) + "]";
      reading_.places[item_path] = node.items[i].place;
      ReadSection(node.items[i], item_path, message->GetReflection()->AddMessage(message, &field));
    }
  }

  // One text, or a list of them.
  void ReadTexts(const YamlNode& node, const std::string& path, const FieldDescriptor& field,
                 ProtoMessage* message) {
    if (node.kind == YamlNode::Kind::kNull) return;
    const auto add = [&](const YamlNode& item, const std::string& item_path) {
      if (item.kind != YamlNode::Kind::kScalar) {
        Problem(item.place, item_path,
                "expected text" + std::string(&item == &node ? " or a list of texts" : "") +
                    ", got " + YamlKindText(item));
        return;
      }
      message->GetReflection()->AddString(message, &field, item.text);
    };
    if (node.kind != YamlNode::Kind::kList) {
      add(node, path);
      return;
    }
    for (size_t i = 0; i < node.items.size(); ++i) {
      const std::string item_path = path + "[" + std::to_string(i) + "]";
      reading_.places[item_path] = node.items[i].place;
      add(node.items[i], item_path);
    }
  }

  // map<string, string>
  void ReadMap(const YamlNode& node, const std::string& path, const FieldDescriptor& field,
               ProtoMessage* message) {
    if (node.kind == YamlNode::Kind::kNull) return;
    if (node.kind != YamlNode::Kind::kMap) {
      Problem(node.place, path, "expected a mapping of keys to values, got " + YamlKindText(node));
      return;
    }
    std::set<std::string> seen;
    for (const YamlNode::Entry& entry : node.entries) {
      const std::string key_path = Join(path, entry.key);
      if (!seen.insert(entry.key).second) {
        Problem(entry.key_place, key_path, "given twice");
        continue;
      }
      if (entry.value.kind != YamlNode::Kind::kScalar) {
        Problem(entry.value.place, key_path,
                "expected text or a number, got " + YamlKindText(entry.value));
        continue;
      }
      reading_.places[key_path] = entry.key_place;
      ProtoMessage* pair = message->GetReflection()->AddMessage(message, &field);
      const Descriptor& pair_type = *pair->GetDescriptor();
      pair->GetReflection()->SetString(pair, pair_type.field(0), entry.key);
      pair->GetReflection()->SetString(pair, pair_type.field(1), entry.value.text);
    }
  }

  static std::string WithArticle(const FieldDescriptor& field) {
    const std::string type = TypeText(field);
    const bool is_noun = type == "whole number" || type == "number" || type == "duration";
    return is_noun ? "a " + type : type;
  }

  static std::string UnknownKey(const Descriptor& type, const std::string& path,
                                const std::string& key) {
    std::string message = "unknown key";
    if (key == "<<") return message + "; merge keys are not read, repeat the settings";
    std::vector<std::string> sections;
    FindKey(*v1::JobSpec::descriptor(), "", key, &sections);
    if (sections.size() == 1 && sections[0].empty()) {
      return message + "; '" + key + "' is a section of its own, at the left margin";
    }
    if (!sections.empty()) {
      message += "; '" + key + "' belongs to ";
      for (size_t i = 0; i < sections.size(); ++i) {
        if (i > 0) message += i + 1 == sections.size() ? " or " : ", ";
        message += "'" + (sections[i].empty() ? "the top level" : sections[i]) + "'";
      }
      return message;
    }
    const std::string elsewhere = KeyKnownElsewhereAs(key);
    if (!elsewhere.empty()) return message + "; it is called '" + elsewhere + "' here";
    std::vector<std::string> candidates;
    for (int i = 0; i < type.field_count(); ++i) candidates.push_back(type.field(i)->name());
    const std::string nearest = NearestWord(key, candidates);
    if (!nearest.empty()) return message + "; did you mean '" + nearest + "'?";
    message += path.empty() ? "; the sections are " : "; '" + path + "' has ";
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (i > 0) message += i + 1 == candidates.size() ? " and " : ", ";
      message += candidates[i];
    }
    return message;
  }

  SpecReading reading_;
};

YamlNode* FindEntry(YamlNode* node, const std::string& key) {
  for (YamlNode::Entry& entry : node->entries) {
    if (entry.key == key) return &entry.value;
  }
  return nullptr;
}

}  // namespace

SpecReading ReadSpec(const YamlNode& root) { return Reader().Read(root); }

Status ApplyOverride(const std::string& override_text, YamlNode* root) {
  const size_t equals = override_text.find('=');
  const std::string path = override_text.substr(0, equals);
  const std::string source = "--set " + path;
  if (equals == std::string::npos || path.empty()) {
    return InvalidArgument("--set '" + override_text +
                           "': expected section.key=value, e.g. rollout.temperature=0.7");
  }
  StatusOr<YamlNode> value = ParseYaml(override_text.substr(equals + 1), source);
  if (!value.ok()) return value.status();
  // Lines inside the value say nothing to anyone.
  const SourcePlace place{source, 0};
  const auto forget_lines = [&place](auto&& self, YamlNode* node) -> void {
    node->place = place;
    for (YamlNode& item : node->items) self(self, &item);
    for (YamlNode::Entry& entry : node->entries) {
      entry.key_place = place;
      self(self, &entry.value);
    }
  };
  forget_lines(forget_lines, &value.value());

  const bool removes = value->kind == YamlNode::Kind::kNull;
  YamlNode* node = root;
  size_t begin = 0;
  for (int depth = 0; begin <= path.size(); ++depth) {
    if (depth >= YamlLimits().max_depth) return InvalidArgument(source + ": too many parts");
    const size_t dot = std::min(path.find('.', begin), path.size());
    const std::string key = path.substr(begin, dot - begin);
    const bool is_last = dot == path.size();
    begin = dot + 1;
    if (key.empty()) return InvalidArgument(source + ": an empty part between dots");
    if (node->kind == YamlNode::Kind::kList) {
      size_t index = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
      if (error != std::errc() || end != key.data() + key.size() || index >= node->items.size()) {
        return InvalidArgument(source + ": '" + key + "' is no item of a list of " +
                               std::to_string(node->items.size()) + "; items count from 0");
      }
      node = &node->items[index];
      continue;
    }
    if (node->kind == YamlNode::Kind::kScalar) {
      return InvalidArgument(source + ": '" + key + "' lies below a value, not a section");
    }
    node->kind = YamlNode::Kind::kMap;
    if (is_last && removes) {
      const size_t erased =
          std::erase_if(node->entries, [&key](const auto& entry) { return entry.key == key; });
      if (erased > 0) return OkStatus();
      // Nothing to take out: the reader still tells whether the key exists.
    }
    YamlNode* child = FindEntry(node, key);
    if (child == nullptr) {
      node->entries.push_back({key, place, YamlNode{YamlNode::Kind::kNull, "", place, {}, {}}});
      child = &node->entries.back().value;
    } else if (is_last) {
      for (YamlNode::Entry& entry : node->entries) {
        if (entry.key == key) entry.key_place = place;
      }
    }
    node = child;
  }
  *node = std::move(value).value();
  return OkStatus();
}

}  // namespace rollcall
