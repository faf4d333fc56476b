// A hash table from 64-bit keys to small values that is filled once and then only read.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rollcall {

// Open addressing, linear probing, at most half full. The key ~0 must not be used.
template <typename Value>
class FlatMap {
 public:
  FlatMap() : slots_(2) {}
  // Makes room for `count` keys; drops what was there.
  void Reset(size_t count) {
    slots_.assign(std::bit_ceil(count * 2 + 2), Slot{});
    shift_ = 64 - std::countr_zero(slots_.size());
  }
  // Puts or replaces. No more different keys than Reset() was told.
  void Put(uint64_t key, Value value) {
    size_t i = Place(key);
    while (slots_[i].key != kFree && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = {key, value};
  }
  // Null when the key is not there.
  const Value* Find(uint64_t key) const {
    size_t i = Place(key);
    while (slots_[i].key != key) {
      if (slots_[i].key == kFree) return nullptr;
      i = (i + 1) & (slots_.size() - 1);
    }
    return &slots_[i].value;
  }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};
  struct Slot {
    uint64_t key = kFree;
    Value value{};
  };
  size_t Place(uint64_t key) const {
    return static_cast<size_t>(((key ^ (key >> 29)) * 0x9E3779B97F4A7C15ull) >> shift_);
  }
  std::vector<Slot> slots_;
  int shift_ = 63;
};

}  // namespace rollcall
