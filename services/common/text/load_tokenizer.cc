#include <string>

#include "services/common/storage/files.h"
#include "services/common/text/tokenizer.h"

namespace rollcall {
namespace {

constexpr uint64_t kMaxFileBytes = 128 << 20;

}  // namespace

StatusOr<std::shared_ptr<const Tokenizer>> LoadTokenizer(const std::string& directory) {
  const std::string path = directory + "/tokenizer.json";
  ROLLCALL_ASSIGN_OR_RETURN(const std::string json, ReadFile(path, kMaxFileBytes));
  return ParseTokenizer(json, path);
}

}  // namespace rollcall
