#include "trainer/checkpoint/retention.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace rollcall {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step_";

}  // namespace

std::string CheckpointDirectory(const std::string& run_dir, int64_t step) {
  return run_dir + "/checkpoints/" + std::string(kPrefix) + std::to_string(step);
}

Status RemoveOldCheckpoints(const std::string& run_dir, int64_t step, int keep_last) {
  const fs::path root = fs::path(run_dir) / "checkpoints";
  std::vector<std::pair<int64_t, fs::path>> complete;
  std::vector<fs::path> doomed;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    if (name.find(".tmp-") != std::string::npos) {
      doomed.push_back(entry.path());
      continue;
    }
    int64_t number = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + kPrefix.size(), end, number);
    if (parsed.ec != std::errc() || parsed.ptr != end || number > step) continue;
    complete.emplace_back(number, entry.path());
  }
  if (error) return Internal("cannot list " + root.string() + ": " + error.message());
  std::sort(complete.begin(), complete.end(), std::greater<>());
  for (size_t i = static_cast<size_t>(keep_last); i < complete.size(); ++i) {
    doomed.push_back(complete[i].second);
  }
  for (const fs::path& path : doomed) {
    fs::remove_all(path, error);
    if (error) return Internal("cannot remove " + path.string() + ": " + error.message());
  }
  return OkStatus();
}

}  // namespace rollcall
