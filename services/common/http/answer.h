// The answer of one exchange on its way from the handler's thread to the connection.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "services/base/sync/mutex.h"
#include "services/common/http/exchange.h"

namespace rollcall {

struct HttpAnswerOptions {
  bool keep_alive = true;    // what the request and the server want
  bool is_head = false;      // the body is left out
  bool is_http_1_0 = false;  // streams end with the connection
  size_t max_stream_buffer_bytes = 0;
  // There is something to take. Any thread, no lock held.
  std::function<void()> wake;
  // The client reads too slowly.
  std::function<void()> cut;
};

// Thread-safe.
class HttpAnswer {
 public:
  explicit HttpAnswer(HttpAnswerOptions options) : options_(std::move(options)) {}

  // The handler's side; see HttpExchange.
  void Respond(const HttpResponse& response) ABSL_LOCKS_EXCLUDED(mu_);
  void StartStream(const HttpResponse& head) ABSL_LOCKS_EXCLUDED(mu_);
  bool Write(std::string_view data) ABSL_LOCKS_EXCLUDED(mu_);
  void EndStream() ABSL_LOCKS_EXCLUDED(mu_);
  void OnDisconnect(std::function<void()> callback) ABSL_LOCKS_EXCLUDED(mu_);
  // There will be nothing more: an incomplete stream is cut, a missing answer is `missing`.
  void Abandon(const std::function<HttpResponse()>& missing) ABSL_LOCKS_EXCLUDED(mu_);

  // The connection's side.
  struct Piece {
    std::string bytes;
    bool is_last = false;      // the answer is complete with these bytes
    bool keeps_alive = false;  // of the last piece
  };
  Piece Take() ABSL_LOCKS_EXCLUDED(mu_);
  // Nobody will take the rest. Runs the handler's callback.
  void PeerGone() ABSL_LOCKS_EXCLUDED(mu_);
  int status() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  enum class Stage { kNothing, kStreaming, kComplete };

  void Append(std::string_view bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Whether wake() is due.
  bool NeedsWake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const HttpAnswerOptions options_;

  mutable Mutex mu_;
  Stage stage_ ABSL_GUARDED_BY(mu_) = Stage::kNothing;
  int status_ ABSL_GUARDED_BY(mu_) = 0;
  bool keeps_alive_ ABSL_GUARDED_BY(mu_) = false;
  bool chunked_ ABSL_GUARDED_BY(mu_) = false;
  std::string pending_ ABSL_GUARDED_BY(mu_);
  bool is_woken_ ABSL_GUARDED_BY(mu_) = false;
  bool is_gone_ ABSL_GUARDED_BY(mu_) = false;
  std::function<void()> on_disconnect_ ABSL_GUARDED_BY(mu_);
};

// What a handler holds of an answer.
class AnswerExchange final : public HttpExchange {
 public:
  AnswerExchange(HttpRequest request, std::shared_ptr<HttpAnswer> answer,
                 std::function<HttpResponse()> missing)
      : request_(std::move(request)), answer_(std::move(answer)), missing_(std::move(missing)) {}
  ~AnswerExchange() override { answer_->Abandon(missing_); }
  AnswerExchange(const AnswerExchange&) = delete;
  AnswerExchange& operator=(const AnswerExchange&) = delete;

  const HttpRequest& request() const override { return request_; }
  void Respond(const HttpResponse& response) override { answer_->Respond(response); }
  void StartStream(const HttpResponse& head) override { answer_->StartStream(head); }
  bool Write(std::string_view data) override { return answer_->Write(data); }
  void EndStream() override { answer_->EndStream(); }
  void OnDisconnect(std::function<void()> callback) override {
    answer_->OnDisconnect(std::move(callback));
  }

 private:
  const HttpRequest request_;
  const std::shared_ptr<HttpAnswer> answer_;
  const std::function<HttpResponse()> missing_;
};

}  // namespace rollcall
