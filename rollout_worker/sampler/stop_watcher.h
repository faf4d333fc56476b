// Ends of a completion that no token id tells.
#pragma once

#include <cstdint>

namespace rollcall {

// Watches one completion for an end that no token id tells, such as a stop string. Belongs to one
// sequence; used on the engine's thread.
class StopWatcher {
 public:
  virtual ~StopWatcher() = default;
  // Takes the completion's next token; true when the completion ends with it.
  virtual bool EndsWith(int32_t token) = 0;
};

}  // namespace rollcall
