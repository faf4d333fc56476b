#include "tests/unit/trainer/golden.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "tests/support/catch.h"

namespace rollcall::testing {

nlohmann::json GoldenFile(const std::string& file) {
  std::ifstream stream("tests/golden/trainer/" + file);
  INFO("tests run in the repository root");
  REQUIRE(stream.good());
  return nlohmann::json::parse(stream);
}

nlohmann::json GoldenCase(const std::string& file, const std::string& id) {
  return GoldenFile(file).at("cases").at(id);
}

std::vector<double> Flat(const nlohmann::json& matrix, const nlohmann::json& mask) {
  std::vector<double> flat;
  for (size_t b = 0; b < mask.size(); ++b) {
    for (size_t t = 0; t < mask[b].size(); ++t) {
      if (mask[b][t] == 1) flat.push_back(matrix[b][t].get<double>());
    }
  }
  return flat;
}

std::vector<int64_t> Starts(const nlohmann::json& mask) {
  std::vector<int64_t> starts = {0};
  for (const auto& row : mask) {
    starts.push_back(starts.back() + std::count(row.begin(), row.end(), 1));
  }
  return starts;
}

std::vector<double> Numbers(const nlohmann::json& array) {
  return array.get<std::vector<double>>();
}

void RequireClose(const std::vector<double>& got, const std::vector<double>& want,
                  double tolerance) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("entry " << i << ": got " << got[i] << ", want " << want[i]);
    REQUIRE(std::abs(got[i] - want[i]) <= tolerance * std::max(1.0, std::abs(want[i])));
  }
}

}  // namespace rollcall::testing
