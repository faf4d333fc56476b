// One HTTP request and the answer to it.
//
//   Respond()                          whole answers
//   StartStream() Write()* EndStream() answers that grow (server-sent events)
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "services/common/http/message.h"

namespace rollcall {

// Thread-safe; may be kept and answered from any thread, also after the server is gone. An exchange
// that is dropped without an answer answers 500, or cuts the stream short.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;

  // Second and later calls do nothing.
  virtual void Respond(const HttpResponse& response) = 0;

  // `head.body` is the beginning of the body.
  virtual void StartStream(const HttpResponse& head) = 0;
  // Queues a piece of the body; false when nobody will read it: the client went, or it reads so
  // slowly that its buffer is full and the connection was cut.
  virtual bool Write(std::string_view data) = 0;
  virtual void EndStream() = 0;

  // Runs `callback` once if the client goes before the answer is complete; at once when it did. On
  // a thread of the server, with no lock held; it must be quick. It is dropped when the answer is
  // complete. One per exchange.
  virtual void OnDisconnect(std::function<void()> callback) = 0;
};

// Runs on a thread of the server: it answers quickly, or hands the exchange on and returns.
using HttpHandler = std::function<void(std::shared_ptr<HttpExchange>)>;

}  // namespace rollcall
