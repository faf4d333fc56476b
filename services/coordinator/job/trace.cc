#include "services/coordinator/job/trace.h"

#include <utility>

#include <nlohmann/json.hpp>

namespace rollcall::coordinator {

void Trace::Add(TraceSpan span) {
  if (spans_.size() >= kMaxSpans) {
    spans_.pop_front();
    ++num_dropped_;
  }
  spans_.push_back(std::move(span));
}

std::string Trace::ToJson(absl::Time origin) const {
  std::map<std::string, int> lanes;
  for (const TraceSpan& span : spans_) lanes.emplace(span.lane, 0);
  nlohmann::json events = nlohmann::json::array();
  int next = 1;
  for (auto& [lane, number] : lanes) {
    number = next++;
    events.push_back({{"name", "thread_name"},
                      {"ph", "M"},
                      {"pid", 1},
                      {"tid", number},
                      {"args", {{"name", lane}}}});
  }
  for (const TraceSpan& span : spans_) {
    events.push_back({{"name", span.name},
                      {"cat", span.name},
                      {"ph", "X"},
                      {"pid", 1},
                      {"tid", lanes[span.lane]},
                      {"ts", absl::ToInt64Microseconds(span.start - origin)},
                      {"dur", absl::ToInt64Microseconds(span.duration)},
                      {"args", {{"iteration", span.iteration}}}});
  }
  const nlohmann::json trace = {{"traceEvents", std::move(events)},
                                {"displayTimeUnit", "ms"},
                                {"otherData", {{"spans_dropped", num_dropped_}}}};
  return trace.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace rollcall::coordinator
