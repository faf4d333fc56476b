#include "tests/support/python.h"

#include <cstdlib>
#include <fstream>
#include <iostream>

#include "tests/support/temp_dir.h"

namespace rollcall::testing {
namespace {

std::string Python() {
  const char* python = std::getenv("ROLLCALL_PYTHON");  // NOLINT(concurrency-mt-unsafe)
  return python == nullptr || *python == '\0' ? "python3" : python;
}

}  // namespace

bool HasPython(const std::string& modules) {
  const std::string command = Python() + " -c 'import " + modules + "' >/dev/null 2>&1";
  if (std::system(command.c_str()) == 0) return true;  // NOLINT(concurrency-mt-unsafe)
  std::cout << "[skipped] " << Python() << " has no " << modules << "\n";
  return false;
}

int RunPython(const std::string& script, const std::string& arguments) {
  const TempDir dir;
  const std::string errors = dir.File("stderr");
  const std::string command = Python() + " " + script + " " + arguments + " 2>" + errors;
  const int status = std::system(command.c_str());  // NOLINT(concurrency-mt-unsafe)
  if (status != 0) std::cerr << std::ifstream(errors).rdbuf();
  return status;
}

}  // namespace rollcall::testing
