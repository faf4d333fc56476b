#include "services/common/http/api_keys.h"

#include <algorithm>
#include <sstream>

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "services/common/storage/files.h"

namespace rollcall {
namespace {

constexpr uint64_t kMaxFileBytes = 1 << 20;
constexpr size_t kMinKeyLength = 16;

bool EqualsIgnoringCase(std::string_view a, std::string_view lower) {
  return a.size() == lower.size() &&
         std::equal(a.begin(), a.end(), lower.begin(), [](char x, char y) {
           return (x >= 'A' && x <= 'Z' ? static_cast<char>(x - 'A' + 'a') : x) == y;
         });
}

}  // namespace

ApiKeys::Digest ApiKeys::Hash(std::string_view key) {
  Digest digest{};
  ::SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

StatusOr<ApiKeys> ApiKeys::Load(const std::string& path) {
  const StatusOr<std::string> content = ReadFile(path, kMaxFileBytes);
  if (!content.ok()) return InvalidArgument("API keys: " + Message(content.status()));
  ApiKeys keys;
  std::istringstream lines(*content);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    const bool printable =
        std::all_of(line.begin(), line.end(), [](char c) { return c > 0x20 && c < 0x7F; });
    if (line.size() < kMinKeyLength || !printable) {
      return InvalidArgument("API keys: line " + std::to_string(number) + " of " + path +
                             " must be one key of at least " + std::to_string(kMinKeyLength) +
                             " printable characters");
    }
    keys.digests_.push_back(Hash(line));
  }
  if (keys.empty()) return InvalidArgument("API keys: " + path + " has no key");
  return keys;
}

bool ApiKeys::Admits(std::string_view authorization) const {
  if (empty()) return true;
  constexpr std::string_view kScheme = "bearer ";
  if (!EqualsIgnoringCase(authorization.substr(0, kScheme.size()), kScheme)) return false;
  const Digest digest = Hash(authorization.substr(kScheme.size()));
  bool found = false;
  for (const Digest& known : digests_) {
    // No early end: every key is compared.
    if (::CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0) found = true;
  }
  return found;
}

}  // namespace rollcall
