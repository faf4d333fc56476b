#include "services/common/http/answer.h"

#include <utility>

namespace rollcall {

void HttpAnswer::Append(std::string_view bytes) { pending_ += bytes; }

bool HttpAnswer::NeedsWake() { return !is_gone_ && !std::exchange(is_woken_, true); }

void HttpAnswer::Respond(const HttpResponse& response) {
  std::function<void()> dropped;  // destroyed without the lock
  bool wake = false;
  {
    MutexLock lock(mu_);
    if (stage_ != Stage::kNothing) return;
    stage_ = Stage::kComplete;
    status_ = response.status;
    keeps_alive_ = options_.keep_alive;
    dropped = std::move(on_disconnect_);
    on_disconnect_ = nullptr;
    const std::string length = "Content-Length: " + std::to_string(response.body.size()) + "\r\n";
    Append(HttpHead(response, length, keeps_alive_ ? "keep-alive" : "close"));
    if (!options_.is_head) Append(response.body);
    wake = NeedsWake();
  }
  if (wake) options_.wake();
}

void HttpAnswer::StartStream(const HttpResponse& head) {
  bool wake = false;
  {
    MutexLock lock(mu_);
    if (stage_ != Stage::kNothing) return;
    stage_ = Stage::kStreaming;
    status_ = head.status;
    chunked_ = !options_.is_http_1_0;
    keeps_alive_ = options_.keep_alive && chunked_;
    Append(HttpHead(head, chunked_ ? "Transfer-Encoding: chunked\r\n" : "",
                    keeps_alive_ ? "keep-alive" : "close"));
    if (!options_.is_head) Append(chunked_ ? HttpChunk(head.body) : head.body);
    wake = NeedsWake();
  }
  if (wake) options_.wake();
}

bool HttpAnswer::Write(std::string_view data) {
  bool wake = false;
  bool is_slow = false;
  {
    MutexLock lock(mu_);
    if (is_gone_ || stage_ != Stage::kStreaming) return false;
    if (options_.is_head) return true;
    is_slow = !pending_.empty() && pending_.size() + data.size() > options_.max_stream_buffer_bytes;
    if (!is_slow) {
      Append(chunked_ ? HttpChunk(data) : std::string(data));
      wake = NeedsWake();
    }
  }
  if (wake) options_.wake();
  if (is_slow) options_.cut();
  return !is_slow;
}

void HttpAnswer::EndStream() {
  std::function<void()> dropped;
  bool wake = false;
  {
    MutexLock lock(mu_);
    if (stage_ != Stage::kStreaming) return;
    stage_ = Stage::kComplete;
    dropped = std::move(on_disconnect_);
    on_disconnect_ = nullptr;
    if (chunked_ && !options_.is_head) Append(kHttpLastChunk);
    wake = NeedsWake();
  }
  if (wake) options_.wake();
}

void HttpAnswer::OnDisconnect(std::function<void()> callback) {
  {
    MutexLock lock(mu_);
    if (stage_ == Stage::kComplete && !is_gone_) return;
    if (!is_gone_) {
      on_disconnect_ = std::move(callback);
      return;
    }
  }
  callback();
}

void HttpAnswer::Abandon(const std::function<HttpResponse()>& missing) {
  bool is_streaming = false;
  {
    MutexLock lock(mu_);
    if (is_gone_ || stage_ == Stage::kComplete) return;
    is_streaming = stage_ == Stage::kStreaming;
    if (is_streaming) {
      // Without the last chunk the client sees that the answer is not whole.
      stage_ = Stage::kComplete;
      keeps_alive_ = false;
    }
  }
  if (is_streaming) {
    options_.wake();
  } else {
    Respond(missing());
  }
}

HttpAnswer::Piece HttpAnswer::Take() {
  MutexLock lock(mu_);
  is_woken_ = false;
  Piece piece{.is_last = stage_ == Stage::kComplete, .keeps_alive = keeps_alive_};
  piece.bytes.swap(pending_);
  return piece;
}

void HttpAnswer::PeerGone() {
  std::function<void()> callback;
  {
    MutexLock lock(mu_);
    if (std::exchange(is_gone_, true)) return;
    pending_ = {};
    callback = std::move(on_disconnect_);
    on_disconnect_ = nullptr;
  }
  if (callback) callback();
}

int HttpAnswer::status() const {
  MutexLock lock(mu_);
  return status_;
}

}  // namespace rollcall
