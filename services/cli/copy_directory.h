// A copy of a folder that appears whole or not at all.
#pragma once

#include <functional>
#include <string>

#include "services/base/status/status.h"

namespace rollcall {

struct CopyDirectoryOptions {
  // Whether the file of this name is copied; all are when it is empty.
  std::function<bool(const std::string& name)> keeps;
  // Writes further files into the new directory before it appears under its name.
  std::function<Status(const std::string& directory)> add;
};

// Copies the regular files of `from` (which has no folders of interest) to the new folder `to`,
// fsynced. kAlreadyExists: `to` is there, and is left alone. kNotFound: `from` is not.
// kResourceExhausted: disk full; nothing stays behind.
Status CopyDirectoryAtomic(const std::string& from, const std::string& to,
                           const CopyDirectoryOptions& options = {});

}  // namespace rollcall
