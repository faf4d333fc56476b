#include "services/cli/log_tail.h"

#include <algorithm>
#include <fstream>

#include <sys/stat.h>

#include "services/base/status/errno_text.h"

namespace rollcall {
namespace {

constexpr uint64_t kMaxTailBytes = 4 << 20;
constexpr uint64_t kMaxPollBytes = 1 << 20;

std::vector<std::string> SplitLines(const std::string& text, std::string* rest) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  *rest = text.substr(begin);
  return lines;
}

}  // namespace

StatusOr<std::vector<std::string>> TailLines(const std::string& path, int num_lines) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return NotFound("cannot read " + path + ": " + ErrnoText(errno));
  const auto size = static_cast<uint64_t>(std::max<std::streamoff>(0, file.tellg()));
  const uint64_t begin = size > kMaxTailBytes ? size - kMaxTailBytes : 0;
  file.seekg(static_cast<std::streamoff>(begin));
  std::string text(size - begin, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  std::string rest;
  std::vector<std::string> lines = SplitLines(text, &rest);
  if (!rest.empty()) lines.push_back(std::move(rest));
  if (lines.size() > static_cast<size_t>(num_lines)) {
    lines.erase(lines.begin(), lines.end() - num_lines);
  }
  return lines;
}

LineFollower::LineFollower(std::string path) : path_(std::move(path)) {
  struct stat info{};
  if (stat(path_.c_str(), &info) != 0) return;
  inode_ = info.st_ino;
  offset_ = static_cast<uint64_t>(info.st_size);
}

std::vector<std::string> LineFollower::Poll() {
  struct stat info{};
  if (stat(path_.c_str(), &info) != 0) return {};
  const auto size = static_cast<uint64_t>(info.st_size);
  if (info.st_ino != inode_ || size < offset_) {
    inode_ = info.st_ino;
    offset_ = 0;
    partial_.clear();
  }
  if (size == offset_) return {};
  std::ifstream file(path_, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset_));
  std::string text(std::min(size - offset_, kMaxPollBytes), '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  offset_ += text.size();
  std::string rest;
  std::vector<std::string> lines = SplitLines(partial_ + text, &rest);
  partial_ = std::move(rest);
  return lines;
}

}  // namespace rollcall
