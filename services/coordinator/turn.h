// One turn of the core: a call or a tick changes state and leaves behind what has to happen
// outside. Nothing in here runs while the core is locked.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "services/base/status/status.h"
#include "services/coordinator/journal/records.h"

namespace rollcall::coordinator {

struct Turn {
  absl::Time now;
  // For the journal, in order.
  std::vector<Record> records;
  // Run on the journal's thread when the records are durable, in order over all turns.
  std::vector<std::function<void()>> on_durable;
  // Run by the caller of the turn, once the core is unlocked.
  std::vector<std::function<void()>> after;
  // Freed with the turn, once the core is unlocked: a batch has many thousands of messages.
  std::vector<std::shared_ptr<const void>> dropped;
};

// A caller that waits for its answer. Answered exactly once.
template <typename Response>
struct Call {
  std::function<void(const Status&, Response)> reply;
  // Set by the transport when the caller gave up; an abandoned call gets no work.
  std::shared_ptr<const std::atomic<bool>> abandoned;

  bool gone() const { return abandoned != nullptr && abandoned->load(); }
};

// Answers once the core is unlocked.
template <typename Response>
void Reply(Turn& turn, const Call<Response>& call, const Status& status, Response response = {}) {
  turn.after.push_back([reply = call.reply, status, response = std::move(response)]() mutable {
    reply(status, std::move(response));
  });
}

// Answers once everything that this turn and those before it recorded is durable.
template <typename Response>
void ReplyDurable(Turn& turn, const Call<Response>& call, Response response = {}) {
  turn.on_durable.push_back([reply = call.reply, response = std::move(response)]() mutable {
    reply(OkStatus(), std::move(response));
  });
}

}  // namespace rollcall::coordinator
