// A copy of a folder that appears whole or not at all.
#pragma once

#include <string>

#include "services/base/status/status.h"

namespace rollcall {

// Copies the regular files of `from` (which has no folders of interest) to the new folder `to`,
// fsynced. kAlreadyExists: `to` is there, and is left alone. kNotFound: `from` is not.
// kResourceExhausted: disk full; nothing stays behind.
Status CopyDirectoryAtomic(const std::string& from, const std::string& to);

}  // namespace rollcall
