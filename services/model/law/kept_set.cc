#include "services/model/law/kept_set.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

namespace rollcall {
namespace {

enum Kind : uint64_t { kAll = 0, kListed = 1, kExcluded = 2, kRepeat = 3 };

void WriteNumber(uint64_t number, std::string* out) {
  while (number >= 0x80) {
    out->push_back(static_cast<char>(0x80 | (number & 0x7F)));
    number >>= 7;
  }
  out->push_back(static_cast<char>(number));
}

void WriteHead(Kind kind, uint64_t rest, std::string* out) { WriteNumber((rest << 2) | kind, out); }

class IdWriter {
 public:
  explicit IdWriter(std::string* out) : out_(*out) {}
  void Write(int32_t id) {
    WriteNumber(static_cast<uint64_t>(id - next_), &out_);
    next_ = id + 1;
  }

 private:
  std::string& out_;
  int32_t next_ = 0;
};

// Numbers below 2^35 from a string; what does not hold one reads as broken.
class Reader {
 public:
  Reader(std::string_view codes, size_t position) : codes_(codes), position_(position) {}

  bool Number(uint64_t* number) {
    *number = 0;
    for (int shift = 0; shift <= 28; shift += 7) {
      if (position_ == codes_.size()) return false;
      const auto byte = static_cast<unsigned char>(codes_[position_++]);
      *number |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  size_t position() const { return position_; }
  bool at_end() const { return position_ == codes_.size(); }

 private:
  std::string_view codes_;
  size_t position_;
};

struct Head {
  Kind kind = kAll;
  int64_t rest = 0;
};

Head ReadHead(Reader* reader) {
  uint64_t number = 0;
  reader->Number(&number);
  return {static_cast<Kind>(number & 3), static_cast<int64_t>(number >> 2)};
}

// Calls `visit` with each id of a checked code; stops when it returns false.
template <typename Visit>
void VisitIds(Reader* reader, int64_t count, const Visit& visit) {
  int64_t id = -1;
  for (int64_t i = 0; i < count; ++i) {
    uint64_t gap = 0;
    reader->Number(&gap);
    id += static_cast<int64_t>(gap) + 1;
    if (!visit(static_cast<int32_t>(id))) return;
  }
}

// Reads one code; `number` tokens came before. False when it is broken.
bool SkipCode(Reader* reader, int64_t number, int64_t vocab_size, Head* head) {
  uint64_t first = 0;
  if (!reader->Number(&first)) return false;
  *head = {static_cast<Kind>(first & 3), static_cast<int64_t>(first >> 2)};
  switch (head->kind) {
    case kAll:
      return head->rest == 0;
    case kRepeat:
      return head->rest >= 1 && head->rest <= number;
    default:
      break;
  }
  const bool listed = head->kind == kListed;
  if (head->rest < (listed ? 1 : 0) || head->rest > vocab_size - (listed ? 0 : 1)) return false;
  int64_t id = -1;
  for (int64_t i = 0; i < head->rest; ++i) {
    uint64_t gap = 0;
    if (!reader->Number(&gap)) return false;
    id += static_cast<int64_t>(gap) + 1;
    if (id >= vocab_size) return false;
  }
  return true;
}

// Begins of the codes of all sets, repeats resolved, into `begins` unless null.
Status ReadCodes(std::string_view codes, int64_t num_tokens, int64_t vocab_size,
                 std::vector<uint32_t>* begins) {
  if (codes.size() > kMaxKeptSetBytes) {
    return InvalidArgument("the kept sets take " + std::to_string(codes.size()) +
                           " bytes, at most " + std::to_string(kMaxKeptSetBytes) + " are allowed");
  }
  Reader reader(codes, 0);
  for (int64_t n = 0; n < num_tokens; ++n) {
    const size_t begin = reader.position();
    Head head;
    if (!SkipCode(&reader, n, vocab_size, &head)) {
      return InvalidArgument("the kept set of token " + std::to_string(n) + " is broken");
    }
    if (begins == nullptr) continue;
    begins->push_back(head.kind == kRepeat ? (*begins)[static_cast<size_t>(n - head.rest)]
                                           : static_cast<uint32_t>(begin));
  }
  if (!reader.at_end()) {
    return InvalidArgument("the kept sets go on after those of " + std::to_string(num_tokens) +
                           " tokens");
  }
  return OkStatus();
}

}  // namespace

Status KeptSetWriter::Append(std::span<const int32_t> kept, int64_t vocab_size,
                             std::string* codes) {
  code_.clear();
  const auto num_kept = static_cast<int64_t>(kept.size());
  if (num_kept == 0 || num_kept == vocab_size) {
    WriteHead(kAll, 0, &code_);
  } else if (num_kept <= vocab_size / 2) {
    WriteHead(kListed, static_cast<uint64_t>(num_kept), &code_);
    IdWriter ids(&code_);
    for (const int32_t id : kept) ids.Write(id);
  } else {
    WriteHead(kExcluded, static_cast<uint64_t>(vocab_size - num_kept), &code_);
    IdWriter ids(&code_);
    int32_t next = 0;
    for (const int32_t id : kept) {
      for (; next < id; ++next) ids.Write(next);
      next = id + 1;
    }
    for (; next < vocab_size; ++next) ids.Write(next);
  }
  const int64_t number = num_written_++;
  const auto [it, is_new] = by_hash_.try_emplace(std::hash<std::string_view>{}(code_),
                                                 Written{number, codes->size(), code_.size()});
  const Written& old = it->second;
  if (!is_new && std::string_view(*codes).substr(old.begin, old.size) == code_) {
    std::string repeat;
    WriteHead(kRepeat, static_cast<uint64_t>(number - old.number), &repeat);
    if (repeat.size() < code_.size()) code_ = std::move(repeat);
  }
  if (codes->size() + code_.size() > kMaxKeptSetBytes) {
    return ResourceExhausted("the kept sets of a completion of " + std::to_string(number + 1) +
                             " tokens take more than " + std::to_string(kMaxKeptSetBytes) +
                             " bytes; bound them with top_k");
  }
  *codes += code_;
  return OkStatus();
}

StatusOr<KeptSets> KeptSets::Parse(std::string codes, int64_t num_tokens, int64_t vocab_size) {
  KeptSets sets;
  sets.codes_ = std::move(codes);
  sets.vocab_size_ = vocab_size;
  ROLLCALL_RETURN_IF_ERROR(ReadCodes(sets.codes_, num_tokens, vocab_size, &sets.begins_));
  return sets;
}

Status CheckKeptSets(std::string_view codes, int64_t num_tokens, int64_t vocab_size) {
  return ReadCodes(codes, num_tokens, vocab_size, nullptr);
}

bool KeptSets::IsAll(int64_t number) const {
  Reader reader(codes_, begins_[static_cast<size_t>(number)]);
  return ReadHead(&reader).kind == kAll;
}

bool KeptSets::Contains(int64_t number, int32_t token) const {
  if (token < 0 || token >= vocab_size_) return false;
  Reader reader(codes_, begins_[static_cast<size_t>(number)]);
  const Head head = ReadHead(&reader);
  bool found = false;
  VisitIds(&reader, head.rest, [&](int32_t id) {
    found = id == token;
    return id < token;
  });
  return found == (head.kind == kListed);
}

void KeptSets::Decode(int64_t number, std::vector<int32_t>* kept) const {
  kept->clear();
  Reader reader(codes_, begins_[static_cast<size_t>(number)]);
  const Head head = ReadHead(&reader);
  if (head.kind == kListed) {
    VisitIds(&reader, head.rest, [&](int32_t id) {
      kept->push_back(id);
      return true;
    });
    return;
  }
  int32_t next = 0;
  const auto fill_until = [&](int32_t end) {
    for (; next < end; ++next) kept->push_back(next);
  };
  VisitIds(&reader, head.rest, [&](int32_t id) {
    fill_until(id);
    next = id + 1;
    return true;
  });
  fill_until(static_cast<int32_t>(vocab_size_));
}

}  // namespace rollcall
