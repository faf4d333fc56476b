// Numeric cases of tests/golden/trainer, with their padded matrices made flat.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace rollcall::testing {

// One case: "inputs", "params", "expected".
nlohmann::json GoldenCase(const std::string& file, const std::string& id);
nlohmann::json GoldenFile(const std::string& file);

// Row b of a padded matrix keeps the entries whose mask is 1.
std::vector<double> Flat(const nlohmann::json& matrix, const nlohmann::json& mask);
std::vector<int64_t> Starts(const nlohmann::json& mask);
std::vector<double> Numbers(const nlohmann::json& array);

// Fails the test unless the sequences agree to `tolerance` * max(1, |want|).
void RequireClose(const std::vector<double>& got, const std::vector<double>& want,
                  double tolerance = 1e-6);

}  // namespace rollcall::testing
