#include "services/common/template/json_value.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "services/common/template/operators.h"
#include "services/common/template/unicode.h"
#include "services/common/template/value_text.h"
#include "services/common/text/utf8.h"

namespace rollcall::jinja {
namespace {

// Builds values from the events of the parser, so that nothing is built twice and the limits hold
// while it runs.
class ValueBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueBuilder(Heap& heap) : heap_(heap) {}

  Value TakeResult() { return std::move(result_); }
  const Status& status() const { return status_; }

  bool null() override { return Put(Value::None()); }
  bool boolean(bool value) override { return Put(Value::Bool(value)); }
  bool number_integer(number_integer_t value) override { return Put(Value::Int(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(INT64_MAX)) return TooLarge(std::to_string(value));
    return Put(Value::Int(static_cast<int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (text.find_first_of(".eE") == string_t::npos) return TooLarge(text);
    return Put(Value::Float(value));
  }
  bool string(string_t& value) override { return PutStatus(heap_.String(std::move(value))); }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(size_t /*size*/) override { return Open(true); }
  bool key(string_t& value) override {
    StatusOr<Value> made = heap_.String(std::move(value));
    if (!made.ok()) return Fail(made.status());
    open_.back().key = *std::move(made);
    return true;
  }
  bool end_object() override {
    Level level = std::move(open_.back());
    open_.pop_back();
    return PutStatus(heap_.Dict(std::move(level.entries)));
  }
  bool start_array(size_t /*size*/) override { return Open(false); }
  bool end_array() override {
    Level level = std::move(open_.back());
    open_.pop_back();
    return PutStatus(heap_.List(std::move(level.items)));
  }
  bool parse_error(size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    return Fail(InvalidArgument("not JSON at byte " + std::to_string(position) + ": " +
                                std::string(TruncateUtf8(error.what(), 200))));
  }

 private:
  struct Level {
    bool is_object = false;
    Value key;
    std::vector<DictObject::Entry> entries;
    std::vector<Value> items;
  };

  bool Fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
    return false;
  }
  bool TooLarge(const std::string& text) {
    return Fail(InvalidArgument("the integer " + std::string(TruncateUtf8(text, 40)) +
                                " does not fit 64 bits, which is what is supported"));
  }
  bool Open(bool is_object) {
    if (open_.size() >= static_cast<size_t>(heap_.limits().max_value_depth)) {
      return Fail(InvalidArgument("JSON is nested deeper than the limit of " +
                                  std::to_string(heap_.limits().max_value_depth)));
    }
    open_.emplace_back();
    open_.back().is_object = is_object;
    return true;
  }
  bool PutStatus(StatusOr<Value> value) {
    if (!value.ok()) return Fail(value.status());
    return Put(*std::move(value));
  }
  bool Put(Value value) {
    if (open_.empty()) {
      result_ = std::move(value);
    } else if (open_.back().is_object) {
      open_.back().entries.emplace_back(std::move(open_.back().key), std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  Heap& heap_;
  std::vector<Level> open_;
  Value result_;
  Status status_;
};

class JsonWriter {
 public:
  JsonWriter(Heap& heap, const DumpOptions& options, std::string* out)
      : heap_(heap), options_(options), out_(out) {}

  Status Write(const Value& value, int level);

 private:
  Status WriteList(const std::vector<Value>& items, int level);
  Status WriteDict(const DictObject& dict, int level);
  Status WriteKey(const Value& key);
  Status WriteText(std::string_view text);
  void WriteEscape(char32_t c);
  Status NewLine(int level);

  Heap& heap_;
  const DumpOptions& options_;
  std::string* out_;
};

void JsonWriter::WriteEscape(char32_t c) {
  std::array<char, 16> buffer{};
  if (c > 0xFFFF) {
    const uint32_t rest = c - 0x10000;
    std::snprintf(buffer.data(), buffer.size(), "\\u%04x\\u%04x", 0xD800U + (rest >> 10),
                  0xDC00U + (rest & 0x3FFU));
  } else {
    std::snprintf(buffer.data(), buffer.size(), "\\u%04x", static_cast<unsigned>(c));
  }
  *out_ += buffer.data();
}

Status JsonWriter::WriteText(std::string_view text) {
  ROLLCALL_RETURN_IF_ERROR(heap_.StepBytes(text.size()));
  out_->push_back('"');
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextChar(text, &i);
    if (c == U'"' || c == U'\\') {
      out_->push_back('\\');
      out_->push_back(static_cast<char>(c));
    } else if (c == U'\n') {
      *out_ += "\\n";
    } else if (c == U'\r') {
      *out_ += "\\r";
    } else if (c == U'\t') {
      *out_ += "\\t";
    } else if (c == U'\f') {
      *out_ += "\\f";
    } else if (c == U'\b') {
      *out_ += "\\b";
    } else if (c < 0x20 || (options_.ensure_ascii && c > 0x7E)) {
      if (c == 0x7F) {
        out_->push_back(static_cast<char>(c));
      } else {
        WriteEscape(c);
      }
    } else {
      AppendUtf8(c, out_);
    }
  }
  out_->push_back('"');
  return OkStatus();
}

std::string JsonFloat(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return ReprFloat(value);
}

Status JsonWriter::NewLine(int level) {
  if (!options_.indent) return OkStatus();
  out_->push_back('\n');
  for (int i = 0; i < level; ++i) *out_ += *options_.indent;
  return heap_.CheckStringBytes(out_->size());
}

Status JsonWriter::WriteList(const std::vector<Value>& items, int level) {
  if (items.empty()) {
    *out_ += "[]";
    return OkStatus();
  }
  out_->push_back('[');
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) *out_ += options_.item_separator;
    ROLLCALL_RETURN_IF_ERROR(NewLine(level + 1));
    ROLLCALL_RETURN_IF_ERROR(Write(items[i], level + 1));
  }
  ROLLCALL_RETURN_IF_ERROR(NewLine(level));
  out_->push_back(']');
  return OkStatus();
}

Status JsonWriter::WriteKey(const Value& key) {
  switch (key.kind()) {
    case Kind::kString:
      return WriteText(key.text());
    case Kind::kBool:
      *out_ += key.as_bool() ? "\"true\"" : "\"false\"";
      return OkStatus();
    case Kind::kNone:
      *out_ += "\"null\"";
      return OkStatus();
    case Kind::kInt:
      *out_ += "\"" + std::to_string(key.as_int()) + "\"";
      return OkStatus();
    case Kind::kFloat:
      *out_ += "\"" + JsonFloat(key.as_float()) + "\"";
      return OkStatus();
    default:
      return InvalidArgument("tojson: a " + TypeName(key) + " cannot be a key of a JSON object");
  }
}

Status JsonWriter::WriteDict(const DictObject& dict, int level) {
  if (dict.entries.empty()) {
    *out_ += "{}";
    return OkStatus();
  }
  std::vector<const DictObject::Entry*> entries;
  entries.reserve(dict.entries.size());
  for (const auto& entry : dict.entries) entries.push_back(&entry);
  if (options_.sort_keys) {
    Status failed;
    std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
      if (!failed.ok()) return false;
      const StatusOr<bool> less = Less(heap_, a->first, b->first);
      if (!less.ok()) failed = less.status();
      return less.ok() && *less;
    });
    ROLLCALL_RETURN_IF_ERROR(failed);
  }
  out_->push_back('{');
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) *out_ += options_.item_separator;
    ROLLCALL_RETURN_IF_ERROR(NewLine(level + 1));
    ROLLCALL_RETURN_IF_ERROR(WriteKey(entries[i]->first));
    *out_ += options_.key_separator;
    ROLLCALL_RETURN_IF_ERROR(Write(entries[i]->second, level + 1));
  }
  ROLLCALL_RETURN_IF_ERROR(NewLine(level));
  out_->push_back('}');
  return OkStatus();
}

Status JsonWriter::Write(const Value& value, int level) {
  ROLLCALL_RETURN_IF_ERROR(heap_.Step());
  ROLLCALL_RETURN_IF_ERROR(heap_.CheckStringBytes(out_->size()));
  switch (value.kind()) {
    case Kind::kNone:
      *out_ += "null";
      return OkStatus();
    case Kind::kBool:
      *out_ += value.as_bool() ? "true" : "false";
      return OkStatus();
    case Kind::kInt:
      *out_ += std::to_string(value.as_int());
      return OkStatus();
    case Kind::kFloat:
      *out_ += JsonFloat(value.as_float());
      return OkStatus();
    case Kind::kString:
      return WriteText(value.text());
    case Kind::kList:
    case Kind::kTuple:
      return WriteList(value.items(), level);
    case Kind::kDict:
      return WriteDict(value.dict(), level);
    case Kind::kUndefined:
      return InvalidArgument("tojson: " + value.undefined_message());
    default:
      return InvalidArgument("tojson: a " + TypeName(value) + " has no form in JSON");
  }
}

}  // namespace

StatusOr<Value> ParseJson(Heap& heap, std::string_view json) {
  if (json.size() > heap.limits().max_input_bytes) {
    return ResourceExhausted("JSON of " + std::to_string(json.size()) +
                             " bytes is over the limit of " +
                             std::to_string(heap.limits().max_input_bytes));
  }
  ValueBuilder builder(heap);
  const bool parsed = nlohmann::json::sax_parse(json, &builder);
  if (!builder.status().ok()) return builder.status();
  if (!parsed) return InvalidArgument("not JSON");
  return builder.TakeResult();
}

StatusOr<std::string> DumpJson(Heap& heap, const Value& value, const DumpOptions& options) {
  std::string out;
  ROLLCALL_RETURN_IF_ERROR(JsonWriter(heap, options, &out).Write(value, 0));
  ROLLCALL_RETURN_IF_ERROR(heap.CheckStringBytes(out.size()));
  return out;
}

}  // namespace rollcall::jinja
