#include "services/common/rpc/tls.h"

#include "services/common/storage/files.h"

namespace rollcall {
namespace {

constexpr uint64_t kMaxPemBytes = 1 << 20;

StatusOr<std::string> ReadPem(const std::string& path) {
  StatusOr<std::string> pem = ReadFile(path, kMaxPemBytes);
  if (!pem.ok()) return InvalidArgument("TLS: " + Message(pem.status()));
  if (pem->find("-----BEGIN ") == std::string::npos) {
    return InvalidArgument("TLS: '" + path + "' is not a PEM file");
  }
  return pem;
}

}  // namespace

Status CheckTlsOptions(const TlsOptions& options) {
  const bool any =
      !options.ca_file.empty() || !options.certificate_file.empty() || !options.key_file.empty();
  const bool all =
      !options.ca_file.empty() && !options.certificate_file.empty() && !options.key_file.empty();
  if (any && !all) {
    return InvalidArgument(
        "TLS needs all of CA, certificate and key file: both sides prove who they are");
  }
  return OkStatus();
}

StatusOr<TlsMaterial> LoadTls(const TlsOptions& options) {
  ROLLCALL_RETURN_IF_ERROR(CheckTlsOptions(options));
  TlsMaterial material;
  ROLLCALL_ASSIGN_OR_RETURN(material.ca, ReadPem(options.ca_file));
  ROLLCALL_ASSIGN_OR_RETURN(material.certificate, ReadPem(options.certificate_file));
  ROLLCALL_ASSIGN_OR_RETURN(material.key, ReadPem(options.key_file));
  return material;
}

}  // namespace rollcall
