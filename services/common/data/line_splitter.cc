#include "services/common/data/line_splitter.h"

namespace rollcall {

Status LineSplitter::Emit(std::string_view line) {
  ROLLCALL_ASSIGN_OR_RETURN(const bool goes_on, visit_(++number_, line));
  ended_ = !goes_on;
  return OkStatus();
}

Status LineSplitter::Add(std::string_view piece) {
  while (!piece.empty() && !ended_) {
    const size_t end = piece.find('\n');
    const std::string_view head = piece.substr(0, end);
    if (partial_.size() + head.size() > max_line_bytes_) {
      return InvalidArgument("line " + std::to_string(number_ + 1) + " has more than " +
                             std::to_string(max_line_bytes_) + " bytes");
    }
    if (end == std::string_view::npos) {
      partial_ += head;
      return OkStatus();
    }
    if (partial_.empty()) {
      ROLLCALL_RETURN_IF_ERROR(Emit(head));
    } else {
      partial_ += head;
      const Status status = Emit(partial_);
      partial_.clear();
      ROLLCALL_RETURN_IF_ERROR(status);
    }
    piece.remove_prefix(end + 1);
  }
  return OkStatus();
}

Status LineSplitter::Finish() {
  if (ended_ || partial_.empty()) return OkStatus();
  ended_ = true;
  return Emit(partial_);
}

}  // namespace rollcall
