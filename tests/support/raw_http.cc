#include "tests/support/raw_http.h"

#include <unistd.h>

#include <array>
#include <cstdlib>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "services/base/net/address.h"
#include "services/base/status/status.h"

namespace rollcall::testing {
namespace {

constexpr int kTimeoutSeconds = 20;

}  // namespace

RawHttp::RawHttp(const std::string& address) {
  const auto parsed = ParseHostPort(address);
  ROLLCALL_CHECK(parsed.ok());
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval timeout{.tv_sec = kTimeoutSeconds, .tv_usec = 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  sockaddr_in target{};
  target.sin_family = AF_INET;
  target.sin_port = htons(static_cast<uint16_t>(parsed->port));
  ::inet_pton(AF_INET, parsed->host.c_str(), &target.sin_addr);
  const int error = ::connect(fd_, reinterpret_cast<const sockaddr*>(&target), sizeof(target));
  ROLLCALL_CHECK(error == 0, "cannot connect to the server under test");
}

RawHttp::~RawHttp() { Close(); }

void RawHttp::Close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

bool RawHttp::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool RawHttp::Fill() {
  std::array<char, 65536> bytes{};
  const ssize_t received = ::recv(fd_, bytes.data(), bytes.size(), 0);
  if (received <= 0) return false;
  buffer_.append(bytes.data(), static_cast<size_t>(received));
  return true;
}

std::string RawHttp::ReadUntil(std::string_view end) {
  size_t found = buffer_.find(end);
  while (found == std::string::npos) {
    if (!Fill()) return std::exchange(buffer_, {});
    found = buffer_.find(end);
  }
  std::string text = buffer_.substr(0, found + end.size());
  buffer_.erase(0, text.size());
  return text;
}

RawHttp::Response RawHttp::Read() {
  Response response;
  response.head = ReadUntil("\r\n\r\n");
  if (response.head.size() < 12) return response;
  response.status = std::atoi(response.head.c_str() + 9);
  const size_t length_at = response.head.find("Content-Length: ");
  if (length_at != std::string::npos) {
    const auto length = static_cast<size_t>(std::atoll(response.head.c_str() + length_at + 16));
    while (buffer_.size() < length && Fill()) {
    }
    response.is_whole = buffer_.size() >= length;
    response.body = buffer_.substr(0, length);
    buffer_.erase(0, response.body.size());
    return response;
  }
  if (response.head.find("chunked") == std::string::npos) {
    while (Fill()) {
    }
    response.body = std::exchange(buffer_, {});
    response.is_whole = true;
    return response;
  }
  while (true) {
    const std::string line = ReadUntil("\r\n");
    if (line.size() < 3) return response;
    const auto size = static_cast<size_t>(std::strtoull(line.c_str(), nullptr, 16));
    while (buffer_.size() < size + 2 && Fill()) {
    }
    if (buffer_.size() < size + 2) return response;
    response.body += buffer_.substr(0, size);
    buffer_.erase(0, size + 2);
    if (size == 0) {
      response.is_whole = true;
      return response;
    }
  }
}

RawHttp::Response RawHttp::Ask(std::string_view bytes) {
  Send(bytes);
  return Read();
}

bool RawHttp::WaitForClose() {
  std::array<char, 65536> bytes{};
  while (true) {
    const ssize_t received = ::recv(fd_, bytes.data(), bytes.size(), 0);
    if (received == 0) return true;
    if (received < 0) return errno == ECONNRESET;
  }
}

std::string PostRequest(const std::string& path, const std::string& body,
                        const std::string& headers) {
  return "POST " + path + " HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n" +
         headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string GetRequest(const std::string& path, const std::string& headers) {
  return "GET " + path + " HTTP/1.1\r\nHost: test\r\n" + headers + "\r\n";
}

}  // namespace rollcall::testing
