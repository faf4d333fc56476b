#include "services/common/data/jsonl.h"

#include <numeric>
#include <span>

#include <nlohmann/json.hpp>

#include "services/base/runtime/random.h"
#include "services/common/storage/files.h"
#include "services/common/text/utf8.h"

namespace rollcall {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxFileBytes = uint64_t{8} << 30;
constexpr size_t kMaxLineBytes = 16 << 20;
constexpr int kMaxDepth = 64;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
// Keeps the order of the rows apart from every other stream of the same seed.
constexpr uint64_t kPassOrderStream = 0x50617373;

StatusOr<Json> ParseRow(std::string_view line) {
  if (line.size() > kMaxLineBytes) {
    return InvalidArgument("the line has " + std::to_string(line.size()) + " bytes, the limit is " +
                           std::to_string(kMaxLineBytes));
  }
  const size_t invalid = FindInvalidUtf8(line);
  if (invalid != line.size()) {
    return InvalidArgument("not UTF-8 at byte " + std::to_string(invalid + 1) + " of the line");
  }
  bool too_deep = false;
  Json row;
  try {
    row = Json::parse(line, [&](int depth, Json::parse_event_t, const Json&) {
      too_deep = too_deep || depth > kMaxDepth;
      return !too_deep;
    });
  } catch (const Json::parse_error& e) {
    return InvalidArgument("not JSON at byte " + std::to_string(e.byte) + " of the line");
  } catch (const Json::exception& e) {
    return InvalidArgument(std::string("not JSON: ") + e.what());
  }
  if (too_deep) return InvalidArgument("nested deeper than " + std::to_string(kMaxDepth));
  if (!row.is_object()) {
    return InvalidArgument(std::string("expected a JSON object, got ") + row.type_name());
  }
  return row;
}

Status CheckRow(std::string_view line, const std::vector<std::string>& required_fields) {
  ROLLCALL_ASSIGN_OR_RETURN(const Json row, ParseRow(line));
  for (const std::string& field : required_fields) {
    const auto it = row.find(field);
    if (it == row.end()) return InvalidArgument("field '" + field + "' is missing");
    if (!it->is_string()) {
      return InvalidArgument("field '" + field + "' is not a text but " + it->type_name());
    }
  }
  return OkStatus();
}

std::string_view Trim(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r";
  const size_t begin = line.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return line.substr(begin, line.find_last_not_of(kBlank) - begin + 1);
}

}  // namespace

StatusOr<std::vector<DataRow>> ReadJsonl(const std::string& path,
                                         const std::vector<std::string>& required_fields) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFileBytes));
  return ParseJsonl(text, path, required_fields);
}

StatusOr<std::vector<DataRow>> ParseJsonl(std::string_view text, std::string_view origin,
                                          const std::vector<std::string>& required_fields) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::vector<DataRow> rows;
  int64_t line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const size_t end = text.find('\n');
    const std::string_view line = Trim(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty()) continue;
    const Status checked = CheckRow(line, required_fields);
    if (!checked.ok()) {
      return Annotate(checked, std::string(origin) + ":" + std::to_string(line_number));
    }
    rows.push_back({static_cast<int64_t>(rows.size()), line_number, std::string(line)});
  }
  if (rows.empty()) {
    return InvalidArgument(std::string(origin) + ": no rows; expected one JSON object a line");
  }
  return rows;
}

StatusOr<std::string> RowField(const std::string& row_json, const std::string& field) {
  ROLLCALL_ASSIGN_OR_RETURN(const Json row, ParseRow(row_json));
  const auto it = row.find(field);
  if (it == row.end() || it->is_null()) {
    return NotFound("the row has no field '" + field + "'");
  }
  if (it->is_string()) return it->get<std::string>();
  if (it->is_number()) return it->dump();
  return InvalidArgument("field '" + field + "' is neither a text nor a number but " +
                         it->type_name());
}

std::vector<int64_t> PassOrder(uint64_t seed, int64_t pass, int64_t num_rows, bool shuffle) {
  ROLLCALL_CHECK(num_rows >= 0);
  std::vector<int64_t> order(static_cast<size_t>(num_rows));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (!shuffle) return order;
  const uint64_t words[] = {seed, kPassOrderStream, static_cast<uint64_t>(pass)};
  CounterRandom random(MixKey(words));
  Shuffle(std::span<int64_t>(order), random);
  return order;
}

}  // namespace rollcall
