#pragma once

#include <string>
#include <system_error>

namespace rollcall {

// What an errno value means, for people. Thread-safe, unlike strerror.
inline std::string ErrnoText(int error) { return std::generic_category().message(error); }

}  // namespace rollcall
