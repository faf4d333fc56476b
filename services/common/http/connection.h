// One connection of an HTTP server. Internal: sees Boost.
//
//   idle -> header -> body -> answer -> idle ...       -> closed
//                 '--------'---------'-> lingering ---'
//
// Everything runs on the connection's strand but what says otherwise. A read is under way in every
// phase: in `answer` it is what notices that the client went.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "absl/time/time.h"
#include "services/common/http/answer.h"
#include "services/common/http/server_core.h"

namespace rollcall {

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  // A surplus connection is told that there are too many.
  enum class Kind { kNormal, kSurplus };
  HttpConnection(std::shared_ptr<HttpServerCore> core, boost::asio::ip::tcp::socket socket,
                 Kind kind);
  ~HttpConnection();
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  // From any thread.
  void Start();
  // Closes as soon as there is no answer to be given.
  void Drain();
  void Cut();

 private:
  using ErrorCode = boost::system::error_code;
  enum class Phase { kIdle, kHeader, kBody, kAnswer, kLingering, kClosed };

  template <typename Fn>
  void WithStream(Fn fn) {
    if (tls_) {
      fn(*tls_);
    } else {
      fn(socket_);
    }
  }
  void PostSelf(void (HttpConnection::*method)());

  void Handshake();
  void AwaitRequest();
  void ReadSome();
  void OnSome(const ErrorCode& error, size_t num_bytes);
  void ReadHeader();
  void OnHeader(const ErrorCode& error);
  void ReadBody();
  void OnBody(const ErrorCode& error);
  void Dispatch();
  HttpRequest TakeRequest();
  void Answer(HttpRequest request);

  void Flush();
  void OnFlushed(const ErrorCode& error, const HttpAnswer::Piece& piece);
  void FinishAnswer(bool keeps_alive);
  // Writes bytes that are no part of an answer, then goes on.
  void WriteRaw(std::string bytes, void (HttpConnection::*next)());
  // Answers without a handler and closes.
  void Refuse(int status, std::string_view message);
  void Linger();
  void CutSlowReader();
  void Close();

  void SetDeadline(absl::Duration timeout);
  void ClearDeadline();
  void OnDeadline();

  const std::shared_ptr<HttpServerCore> core_;
  const Kind kind_;
  boost::asio::ip::tcp::socket socket_;
  std::optional<boost::asio::ssl::stream<boost::asio::ip::tcp::socket&>> tls_;
  boost::asio::steady_timer timer_;
  uint64_t deadline_ = 0;  // number of the one that counts
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;

  Phase phase_ = Phase::kIdle;
  bool is_reading_ = false;
  bool is_writing_ = false;
  size_t num_drained_bytes_ = 0;
  std::string out_;  // being written
  std::shared_ptr<HttpAnswer> answer_;
  absl::Time answer_start_;
};

}  // namespace rollcall
