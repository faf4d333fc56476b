#include "tests/support/temp_dir.h"

#include <cstdlib>
#include <fstream>

#include "services/base/status/status.h"

namespace rollcall::testing {

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "rollcall-test-XXXXXX").string();
  ROLLCALL_CHECK(mkdtemp(name.data()) != nullptr, "cannot make a temporary directory");
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempDir::Write(const std::string& name, const std::string& content) const {
  const std::filesystem::path file = path_ / name;
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << content;
  return file.string();
}

}  // namespace rollcall::testing
