// Settings that servers and clients share.
#pragma once

#include <string>

namespace rollcall {

// Paths of PEM files. All empty: plain text, loopback only.
struct TlsOptions {
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;
  bool enabled() const { return !ca_file.empty(); }
};

// Bound of one message in either direction.
inline constexpr int kMaxMessageBytes = 64 << 20;

}  // namespace rollcall
