// Reads the fields of a JSON object one by one, with their types and ranges.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "rollout_worker/serving/api/api_error.h"
#include "services/common/data/row_json.h"

namespace rollcall {

// The first field that is wrong is kept as the error; reading goes on with defaults. A null counts
// as absent. Borrows the object. Not thread-safe.
class FieldReader {
 public:
  explicit FieldReader(const RowJson& object) : object_(object) {}

  bool Bool(std::string_view name, bool fallback);
  std::optional<int64_t> Integer(std::string_view name, int64_t min, int64_t max);
  // Finite; both bounds are allowed.
  std::optional<double> Number(std::string_view name, double min, double max);
  std::optional<std::string> Text(std::string_view name, size_t max_bytes);
  // A list of integers of 32 bits.
  std::optional<std::vector<int32_t>> Tokens(std::string_view name, size_t max_items);
  // One text or a list of them.
  std::vector<std::string> Texts(std::string_view name, size_t max_items, size_t max_bytes);
  // Whatever it is; null when absent.
  const RowJson* Any(std::string_view name);
  const RowJson* Object(std::string_view name);

  // Fields that are known and mean nothing here.
  void Skip(std::initializer_list<std::string_view> names);
  void Fail(std::string_view name, std::string message);

  const std::optional<ApiError>& error() const { return error_; }
  // Names that nobody asked for, at most some.
  std::vector<std::string> UnknownFields() const;

 private:
  const RowJson& object_;
  std::set<std::string, std::less<>> known_;
  std::optional<ApiError> error_;
};

// A list of token ids; nothing when an item is not an integer of 32 bits or there are too many.
std::optional<std::vector<int32_t>> ReadTokens(const RowJson& list, size_t max_items);

}  // namespace rollcall
