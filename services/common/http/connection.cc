#include "services/common/http/connection.h"

#include <algorithm>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/rfc7230.hpp>

#include "absl/time/clock.h"
#include "services/base/status/status.h"

namespace rollcall {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr size_t kReadBytes = 16 << 10;
constexpr absl::Duration kLingerTime = absl::Seconds(1);
constexpr size_t kMaxDrainedBytes = 1 << 20;

std::string Lower(boost::beast::string_view text) {
  std::string lower(text.data(), text.size());
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return lower;
}

std::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

HttpConnection::HttpConnection(std::shared_ptr<HttpServerCore> core, asio::ip::tcp::socket socket,
                               Kind kind)
    : core_(std::move(core)),
      kind_(kind),
      socket_(std::move(socket)),
      timer_(socket_.get_executor()),
      buffer_(core_->options.max_header_bytes + 2 * kReadBytes) {
  if (core_->tls) tls_.emplace(socket_, *core_->tls);
}

HttpConnection::~HttpConnection() {
  if (answer_) answer_->PeerGone();
  core_->Unregister(this);
}

void HttpConnection::PostSelf(void (HttpConnection::*method)()) {
  core_->Post(socket_.get_executor(), [self = shared_from_this(), method] { (*self.*method)(); });
}

void HttpConnection::Start() {
  core_->Register(shared_from_this());
  PostSelf(&HttpConnection::Handshake);
}

void HttpConnection::Drain() {
  core_->Post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->phase_ == Phase::kIdle && self->buffer_.size() == 0) self->Close();
  });
}

void HttpConnection::Cut() { PostSelf(&HttpConnection::Close); }

// --- reading ----------------------------------------------------------------------------------

void HttpConnection::Handshake() {
  ErrorCode ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  if (!tls_) return AwaitRequest();
  SetDeadline(core_->options.header_timeout);
  tls_->async_handshake(asio::ssl::stream_base::server,
                        [self = shared_from_this()](const ErrorCode& error) {
                          if (error) return self->Close();
                          self->AwaitRequest();
                        });
}

void HttpConnection::AwaitRequest() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kIdle;
  if (buffer_.size() > 0) return ReadHeader();
  if (core_->draining.load()) return Close();
  // A surplus connection is not worth waiting for.
  SetDeadline(kind_ == Kind::kSurplus ? core_->options.header_timeout
                                      : core_->options.idle_timeout);
  ReadSome();
}

void HttpConnection::ReadSome() {
  if (is_reading_ || phase_ == Phase::kClosed) return;
  is_reading_ = true;
  WithStream([this](auto& stream) {
    stream.async_read_some(buffer_.prepare(kReadBytes),
                           [self = shared_from_this()](const ErrorCode& error, size_t num_bytes) {
                             self->OnSome(error, num_bytes);
                           });
  });
}

void HttpConnection::OnSome(const ErrorCode& error, size_t num_bytes) {
  is_reading_ = false;
  if (error) return Close();
  if (phase_ == Phase::kLingering) {
    num_drained_bytes_ += num_bytes;
    if (num_drained_bytes_ > kMaxDrainedBytes) return Close();
    return ReadSome();
  }
  buffer_.commit(num_bytes);
  // In `answer` these bytes are the next request, which has to wait.
  if (phase_ == Phase::kIdle) ReadHeader();
}

void HttpConnection::ReadHeader() {
  phase_ = Phase::kHeader;
  SetDeadline(core_->options.header_timeout);
  parser_.emplace();
  parser_->header_limit(core_->options.max_header_bytes);
  parser_->body_limit(core_->options.max_body_bytes);
  is_reading_ = true;
  WithStream([this](auto& stream) {
    http::async_read_header(stream, buffer_, *parser_,
                            [self = shared_from_this()](const ErrorCode& error, size_t) {
                              self->is_reading_ = false;
                              self->OnHeader(error);
                            });
  });
}

void HttpConnection::OnHeader(const ErrorCode& error) {
  if (phase_ == Phase::kClosed) return;
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return Refuse(431, "the request's headers are larger than " +
                           std::to_string(core_->options.max_header_bytes) + " bytes");
  }
  if (error == http::error::body_limit) {
    return Refuse(413, "the request's body is larger than " +
                           std::to_string(core_->options.max_body_bytes) + " bytes");
  }
  if (error == http::error::end_of_stream || error == http::error::partial_message) return Close();
  if (error.category() == make_error_code(http::error::bad_method).category()) {
    return Refuse(400, "not an HTTP/1.1 request: " + error.message());
  }
  if (error) return Close();
  if (kind_ == Kind::kSurplus) {
    core_->metrics.Refused();
    return Refuse(503, "too many connections; try again later");
  }
  const auto& head = parser_->get();
  const std::string_view target = View(head.target());
  const HttpRoute* route =
      core_->routes.Find(View(head.method_string()), target.substr(0, target.find('?'))).route;
  const bool is_open = route != nullptr && route->access == HttpAccess::kOpen;
  // Before the body: strangers get no memory.
  if (!is_open && !core_->keys.Admits(View(head[http::field::authorization]))) {
    core_->metrics.KeyRefused();
    return Refuse(401, "no valid key: send the header 'Authorization: Bearer KEY'");
  }
  if (boost::beast::iequals(head[http::field::expect], "100-continue") && !parser_->is_done()) {
    return WriteRaw("HTTP/1.1 100 Continue\r\n\r\n", &HttpConnection::ReadBody);
  }
  ReadBody();
}

void HttpConnection::ReadBody() {
  phase_ = Phase::kBody;
  SetDeadline(core_->options.body_timeout);
  is_reading_ = true;
  WithStream([this](auto& stream) {
    http::async_read(stream, buffer_, *parser_,
                     [self = shared_from_this()](const ErrorCode& error, size_t) {
                       self->is_reading_ = false;
                       self->OnBody(error);
                     });
  });
}

void HttpConnection::OnBody(const ErrorCode& error) {
  if (phase_ == Phase::kClosed) return;
  if (error == http::error::body_limit) {
    return Refuse(413, "the request's body is larger than " +
                           std::to_string(core_->options.max_body_bytes) + " bytes");
  }
  if (error == http::error::partial_message) return Close();
  if (error.category() == make_error_code(http::error::bad_method).category() && error) {
    return Refuse(400, "not an HTTP/1.1 request: " + error.message());
  }
  if (error) return Close();
  ClearDeadline();
  Dispatch();
}

// --- answering --------------------------------------------------------------------------------

HttpRequest HttpConnection::TakeRequest() {
  auto message = parser_->release();
  HttpRequest request;
  request.method = std::string(View(message.method_string()));
  const std::string_view target = View(message.target());
  const size_t mark = target.find('?');
  request.path = std::string(target.substr(0, mark));
  if (mark != std::string_view::npos) request.query = std::string(target.substr(mark + 1));
  for (const auto& field : message) {
    request.headers.emplace_back(Lower(field.name_string()), std::string(View(field.value())));
  }
  request.body = std::move(message.body());
  return request;
}

void HttpConnection::Dispatch() {
  phase_ = Phase::kAnswer;
  answer_start_ = absl::Now();
  const std::weak_ptr<HttpConnection> weak = weak_from_this();
  const bool is_http_1_0 = parser_->get().version() < 11;
  const auto post = [weak](void (HttpConnection::*method)()) {
    if (const auto self = weak.lock()) self->PostSelf(method);
  };
  answer_ = std::make_shared<HttpAnswer>(HttpAnswerOptions{
      .keep_alive = parser_->get().keep_alive() && !is_http_1_0 && !core_->draining.load(),
      .is_head = parser_->get().method() == http::verb::head,
      .is_http_1_0 = is_http_1_0,
      .max_stream_buffer_bytes = core_->options.max_stream_buffer_bytes,
      .wake = [post] { post(&HttpConnection::Flush); },
      .cut = [post] { post(&HttpConnection::CutSlowReader); }});
  HttpRequest request = TakeRequest();
  parser_.reset();
  if (buffer_.size() == 0) ReadSome();
  Answer(std::move(request));
}

void HttpConnection::Answer(HttpRequest request) {
  HttpRoutes::Match match = core_->routes.Find(request.method, request.path);
  request.path_values = std::move(match.path_values);
  std::string path = request.path;
  const auto exchange = std::make_shared<AnswerExchange>(
      std::move(request), answer_,
      [core = core_] { return core->MakeError(500, "the request was dropped"); });
  if (match.route != nullptr) {
    const Status status = GuardExceptions("HTTP handler", [&] {
      match.route->handler(exchange);
      return OkStatus();
    });
    if (!status.ok()) {
      core_->logger.Error("an HTTP handler failed: " + Message(status) + " path=" + path);
      exchange->Respond(core_->MakeError(500, "internal error"));
    }
    return;
  }
  if (match.allowed_methods.empty()) {
    return exchange->Respond(core_->MakeError(404, "there is nothing at " + path));
  }
  HttpResponse response =
      core_->MakeError(405, path + " takes " + match.allowed_methods + " requests");
  response.headers.emplace_back("Allow", match.allowed_methods);
  exchange->Respond(response);
}

void HttpConnection::Flush() {
  if (is_writing_ || !answer_ || phase_ != Phase::kAnswer) return;
  HttpAnswer::Piece piece = answer_->Take();
  if (piece.bytes.empty()) {
    if (piece.is_last) FinishAnswer(piece.keeps_alive);
    return;
  }
  is_writing_ = true;
  out_ = std::move(piece.bytes);
  piece.bytes.clear();
  SetDeadline(core_->options.write_timeout);
  WithStream([this, &piece](auto& stream) {
    asio::async_write(stream, asio::buffer(out_),
                      [self = shared_from_this(), piece = std::move(piece)](
                          const ErrorCode& error, size_t) { self->OnFlushed(error, piece); });
  });
}

void HttpConnection::OnFlushed(const ErrorCode& error, const HttpAnswer::Piece& piece) {
  is_writing_ = false;
  if (error) return Close();
  if (phase_ != Phase::kAnswer) return;
  ClearDeadline();
  if (piece.is_last) return FinishAnswer(piece.keeps_alive);
  Flush();
}

void HttpConnection::FinishAnswer(bool keeps_alive) {
  core_->metrics.Answered(answer_->status(), absl::ToDoubleSeconds(absl::Now() - answer_start_));
  answer_.reset();
  out_ = {};
  if (keeps_alive) return AwaitRequest();
  Linger();
}

void HttpConnection::WriteRaw(std::string bytes, void (HttpConnection::*next)()) {
  out_ = std::move(bytes);
  is_writing_ = true;
  WithStream([this, next](auto& stream) {
    asio::async_write(stream, asio::buffer(out_),
                      [self = shared_from_this(), next](const ErrorCode& error, size_t) {
                        self->is_writing_ = false;
                        if (error || self->phase_ == Phase::kClosed) return self->Close();
                        (*self.*next)();
                      });
  });
}

void HttpConnection::Refuse(int status, std::string_view message) {
  HttpResponse response = core_->MakeError(status, message);
  if (status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (status == 503) response.headers.emplace_back("Retry-After", "1");
  core_->metrics.Answered(status, 0);
  SetDeadline(core_->options.write_timeout);
  const std::string length = "Content-Length: " + std::to_string(response.body.size()) + "\r\n";
  WriteRaw(HttpHead(response, length, "close") + response.body, &HttpConnection::Linger);
}

// --- ending -----------------------------------------------------------------------------------

// Closing with unread bytes would have the kernel reset the connection, and the client lose the
// answer: the rest of the request is read for a moment.
void HttpConnection::Linger() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kLingering;
  SetDeadline(kLingerTime);
  buffer_.clear();
  if (tls_) {
    // Both sides say goodbye; the deadline ends it when the client does not.
    tls_->async_shutdown([self = shared_from_this()](const ErrorCode&) { self->Close(); });
    return;
  }
  ErrorCode ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  ReadSome();
}

void HttpConnection::CutSlowReader() {
  if (phase_ != Phase::kAnswer) return;
  core_->metrics.SlowReader();
  Close();
}

void HttpConnection::Close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  ClearDeadline();
  if (const auto answer = std::exchange(answer_, nullptr)) {
    core_->metrics.ClientGone();
    answer->PeerGone();
  }
  ErrorCode ignored;
  socket_.close(ignored);
}

void HttpConnection::SetDeadline(absl::Duration timeout) {
  const uint64_t number = ++deadline_;
  timer_.expires_after(absl::ToChronoNanoseconds(timeout));
  timer_.async_wait([self = shared_from_this(), number](const ErrorCode& error) {
    if (!error && number == self->deadline_) self->OnDeadline();
  });
}

void HttpConnection::ClearDeadline() {
  ++deadline_;
  timer_.cancel();
}

void HttpConnection::OnDeadline() {
  if (phase_ == Phase::kHeader || phase_ == Phase::kBody) core_->metrics.SlowWriter();
  if (phase_ == Phase::kAnswer) return CutSlowReader();
  Close();
}

}  // namespace rollcall
