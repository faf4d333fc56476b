// The functions that every template can call.
#include <algorithm>
#include <iterator>
#include <utility>

#include "services/common/template/arguments.h"
#include "services/common/template/iterate.h"
#include "services/common/template/objects.h"
#include "services/common/template/operators.h"
#include "services/common/template/value_text.h"
#include "services/common/text/utf8.h"

namespace rollcall::jinja {
namespace {

constexpr size_t kMaxMessageBytes = 4096;
constexpr int64_t kMaxRangeBound = int64_t{1} << 40;

StatusOr<Value> RangeFn(Interpreter& interpreter, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("range", std::move(args), {"", "", ""}, 1));
  int64_t parts[3] = {0, 0, 1};
  for (size_t i = 0; i < 3; ++i) {
    ROLLCALL_ASSIGN_OR_RETURN(parts[i], bound.Int(i, parts[i]));
    if (parts[i] > kMaxRangeBound || parts[i] < -kMaxRangeBound) {
      return ResourceExhausted("range() of numbers past 2**40 is not supported");
    }
  }
  if (!bound.Has(1)) std::swap(parts[0], parts[1]);
  return interpreter.heap().Range(parts[0], parts[1], parts[2]);
}

// dict(mapping or pairs, name=value...).
StatusOr<std::vector<DictObject::Entry>> DictEntries(Interpreter& interpreter,
                                                     std::string_view callee, CallArgs args) {
  std::vector<DictObject::Entry> entries;
  if (args.positional.size() > 1) {
    return InvalidArgument(std::string(callee) + "() takes at most one argument without a name");
  }
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.is_undefined()) {
      // Iterates as an empty list does.
    } else if (source.is(Kind::kDict)) {
      entries = source.dict().entries;
    } else {
      ROLLCALL_ASSIGN_OR_RETURN(const auto pairs, Collect(interpreter, source));
      for (const Value& pair : pairs) {
        ROLLCALL_ASSIGN_OR_RETURN(auto parts, Collect(interpreter, pair));
        if (parts.size() != 2) {
          return InvalidArgument(std::string(callee) + "() wants pairs, got a sequence of " +
                                 std::to_string(parts.size()));
        }
        entries.emplace_back(std::move(parts[0]), std::move(parts[1]));
      }
    }
  }
  for (auto& [key, value] : args.named) {
    ROLLCALL_ASSIGN_OR_RETURN(Value text, interpreter.heap().String(key));
    entries.emplace_back(std::move(text), std::move(value));
  }
  return entries;
}

StatusOr<Value> DictFn(Interpreter& interpreter, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(auto entries, DictEntries(interpreter, "dict", std::move(args)));
  return interpreter.heap().Dict(std::move(entries));
}

StatusOr<Value> NamespaceFn(Interpreter& interpreter, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(auto entries, DictEntries(interpreter, "namespace", std::move(args)));
  auto object = std::make_shared<NamespaceObject>();
  ROLLCALL_RETURN_IF_ERROR(interpreter.heap().Adopt(object.get(), sizeof(NamespaceObject), 0));
  for (auto& [key, value] : entries) {
    if (!key.is_string()) continue;  // Nothing could ever read it.
    ROLLCALL_RETURN_IF_ERROR(object->SetAttribute(key.text(), std::move(value)));
  }
  interpreter.KeepUntilEnd(object);
  return Value::Of(Kind::kNative, std::move(object));
}

StatusOr<Value> CyclerFn(Interpreter& interpreter, CallArgs args) {
  if (args.positional.empty() || !args.named.empty()) {
    return InvalidArgument("cycler() wants at least one item, and no names");
  }
  auto object = std::make_shared<CyclerObject>();
  int depth = 0;
  for (const Value& item : args.positional) depth = std::max(depth, item.depth());
  ROLLCALL_RETURN_IF_ERROR(
      interpreter.heap().Adopt(object.get(), args.positional.size() * sizeof(Value), depth + 1));
  object->items = std::move(args.positional);
  return Value::Of(Kind::kNative, std::move(object));
}

StatusOr<Value> JoinerFn(Interpreter& interpreter, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound, BindArgs("joiner", std::move(args), {"sep"}));
  auto object = std::make_shared<JoinerObject>();
  if (bound.Has(0)) {
    object->separator = bound[0];
  } else {
    ROLLCALL_ASSIGN_OR_RETURN(object->separator, interpreter.heap().String(", "));
  }
  ROLLCALL_RETURN_IF_ERROR(
      interpreter.heap().Adopt(object.get(), 0, object->separator.depth() + 1));
  return Value::Of(Kind::kNative, std::move(object));
}

StatusOr<Value> RaiseFn(Interpreter& interpreter, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("raise_exception", std::move(args), {"message"}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string message, Str(interpreter.heap(), bound[0]));
  return FailedPrecondition("the template refuses the conversation: " +
                            std::string(TruncateUtf8(message, kMaxMessageBytes)));
}

StatusOr<Value> StrftimeFn(Interpreter& interpreter, CallArgs args) {
  ROLLCALL_ASSIGN_OR_RETURN(const BoundArgs bound,
                            BindArgs("strftime_now", std::move(args), {"format"}, 1));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string_view format, bound.Text(0, {}));
  if (!interpreter.now()) {
    return FailedPrecondition(
        "the template asks for the date with strftime_now(), and none was given");
  }
  ROLLCALL_ASSIGN_OR_RETURN(
      std::string text,
      FormatTime(*interpreter.now(), format, interpreter.heap().limits().max_string_bytes));
  return interpreter.heap().String(std::move(text));
}

StatusOr<Value> LipsumFn(Interpreter& /*interpreter*/, CallArgs /*args*/) {
  return Unimplemented("lipsum() is not supported: its text is random");
}

struct Global {
  std::string_view name;
  FunctionFn fn;
};
constexpr Global kGlobals[] = {
    {"range", RangeFn},           {"dict", DictFn},
    {"lipsum", LipsumFn},         {"cycler", CyclerFn},
    {"joiner", JoinerFn},         {"namespace", NamespaceFn},
    {"raise_exception", RaiseFn}, {"strftime_now", StrftimeFn},
};

}  // namespace

bool FindGlobal(std::string_view name, Value* out) {
  const auto* it = std::find_if(std::begin(kGlobals), std::end(kGlobals),
                                [&](const Global& global) { return global.name == name; });
  if (it == std::end(kGlobals)) return false;
  *out = Value::Of(Kind::kNative, std::make_shared<FunctionObject>(it->name, it->fn));
  return true;
}

}  // namespace rollcall::jinja
