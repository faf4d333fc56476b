// Reads keys of one JSON object of a config.json; the first thing that is wrong is kept.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "services/base/status/status.h"

namespace rollcall {

// Borrows the object, the origin and the status. JSON null counts as absent
// except in IsNull.
class JsonReader {
 public:
  using Json = nlohmann::json;

  // `origin` is the file; messages begin with it.
  JsonReader(const Json& json, std::string_view origin, Status* status)
      : json_(json), origin_(origin), status_(status) {}

  // The object under a key that Find found, whose messages say that they are about it.
  JsonReader Inside(const Json& object, const std::string& key) const {
    JsonReader inner(object, origin_, status_);
    inner.scope_ = scope_ + "in '" + key + "': ";
    return inner;
  }

  int64_t Int(const char* key, int64_t low, int64_t high);
  int64_t IntOr(const char* key, int64_t low, int64_t high, int64_t fallback);
  // Above 0.
  double Double(const char* key);
  double DoubleOr(const char* key, double fallback);
  std::vector<double> Doubles(const char* key, size_t most);
  bool BoolOr(const char* key, bool fallback);
  std::string TextOr(const char* key, const std::string& fallback);

  // Absent or this value.
  void MustBe(const char* key, const Json& wanted);
  // Absent, false, 0 or an empty object or list.
  void MustBeOff(const char* key, const char* what);

  // The value, or null when the key is absent or JSON null.
  const Json* Find(const char* key) const;
  // Where an absent key has a default and JSON null means none.
  bool IsNull(const char* key) const;

  void Fail(const std::string& message) const;
  bool ok() const { return status_->ok(); }

  // The value as text of bounded length.
  static std::string Dump(const Json& value);

 private:
  int64_t CheckedInt(const char* key, const Json& value, int64_t low, int64_t high) const;

  const Json& json_;
  std::string_view origin_;
  std::string scope_;
  Status* status_;
};

}  // namespace rollcall
