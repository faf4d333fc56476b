// A client that sends and receives bytes over TCP, to say to an HTTP server what a well-behaved
// client library would not.
#pragma once

#include <string>
#include <string_view>

namespace rollcall::testing {

class RawHttp {
 public:
  // Connects to host:port of a loopback address; fails the test when it cannot.
  explicit RawHttp(const std::string& address);
  ~RawHttp();
  RawHttp(const RawHttp&) = delete;
  RawHttp& operator=(const RawHttp&) = delete;

  // False when the server closed the connection.
  bool Send(std::string_view bytes);
  // One response: its head, then as much of the body as Content-Length or chunks say; chunks are
  // joined. Empty status when the connection ended before.
  struct Response {
    int status = 0;
    std::string head;
    std::string body;
    bool is_whole = false;  // the body ended as the head said
  };
  Response Read();
  // Send and Read.
  Response Ask(std::string_view bytes);
  // Whatever comes until it contains `end`, or the connection ends.
  std::string ReadUntil(std::string_view end);
  // True when the server closes within some seconds; what it sends before is dropped.
  bool WaitForClose();
  void Close();

 private:
  // False at the end.
  bool Fill();

  int fd_ = -1;
  std::string buffer_;
};

// "POST /path" with a JSON body and these further header lines (each with "\r\n").
std::string PostRequest(const std::string& path, const std::string& body,
                        const std::string& headers = "");
std::string GetRequest(const std::string& path, const std::string& headers = "");

}  // namespace rollcall::testing
