// PEM files of TlsOptions, read and checked for completeness.
#pragma once

#include <string>

#include "services/base/status/status.h"
#include "services/common/rpc/options.h"

namespace rollcall {

struct TlsMaterial {
  std::string ca;
  std::string certificate;
  std::string key;
};

// kInvalidArgument when only some of the three files are named, or one is unreadable or empty.
Status CheckTlsOptions(const TlsOptions& options);
StatusOr<TlsMaterial> LoadTls(const TlsOptions& options);

}  // namespace rollcall
