#include "services/model/law/kept_set.h"

#include <string>
#include <vector>

#include "services/base/runtime/random.h"
#include "tests/support/catch.h"

namespace rollcall {
namespace {

std::string Bytes(std::initializer_list<int> values) {
  std::string bytes;
  for (const int value : values) bytes.push_back(static_cast<char>(value));
  return bytes;
}

std::string Write(const std::vector<std::vector<int32_t>>& sets, int64_t vocab_size) {
  KeptSetWriter writer;
  std::string codes;
  for (const auto& set : sets) REQUIRE_OK(writer.Append(set, vocab_size, &codes));
  return codes;
}

}  // namespace

TEST_CASE("KeptSets: codes worked by hand", "[unit][law]") {
  // Listed 3, 4, 200: head 3 << 2 | 1, then 3, 0, 195 as C3 01.
  CHECK(Write({{3, 4, 200}}, 1000) == Bytes({0x0D, 3, 0, 0xC3, 0x01}));
  CHECK(Write({{}}, 1000) == Bytes({0}));
  CHECK(Write({{0, 1, 3}}, 4) == Bytes({0x06, 2}));
  // The third set is that of two tokens before; one as short as a reference is written out.
  CHECK(Write({{3, 4, 200}, {5}, {3, 4, 200}, {5}}, 1000) ==
        Bytes({0x0D, 3, 0, 0xC3, 0x01, 0x05, 5, 0x0B, 0x0B}));
}

TEST_CASE("KeptSets: what is written is read", "[unit][law]") {
  CounterRandom random(5);
  for (int round = 0; round < 200; ++round) {
    const auto vocab = static_cast<int64_t>(1 + random.Below(400));
    std::vector<std::vector<int32_t>> sets(1 + random.Below(12));
    for (auto& set : sets) {
      if (&set != &sets.front() && random.Below(3) == 0) {
        set = sets[random.Below(static_cast<uint64_t>(&set - &sets.front()))];
        continue;
      }
      const double share = random.Uniform();
      for (int32_t id = 0; id < vocab; ++id) {
        if (random.Uniform() < share) set.push_back(id);
      }
    }
    const std::string codes = Write(sets, vocab);
    const auto size = static_cast<int64_t>(sets.size());
    REQUIRE_OK(CheckKeptSets(codes, size, vocab));
    REQUIRE_OK_AND_ASSIGN(const KeptSets read, KeptSets::Parse(codes, size, vocab));
    REQUIRE(read.num_tokens() == size);
    for (int64_t n = 0; n < size; ++n) {
      const std::vector<int32_t>& set = sets[n];
      const bool all = set.empty() || static_cast<int64_t>(set.size()) == vocab;
      REQUIRE(read.IsAll(n) == all);
      std::vector<bool> in_set(vocab, all);
      for (const int32_t id : set) in_set[id] = true;
      for (int32_t id = 0; id < vocab; ++id) REQUIRE(read.Contains(n, id) == in_set[id]);
      CHECK(!read.Contains(n, -1));
      CHECK(!read.Contains(n, static_cast<int32_t>(vocab)));
      if (all) continue;
      std::vector<int32_t> kept;
      read.Decode(n, &kept);
      REQUIRE(kept == set);
    }
    // Neither fewer nor more tokens, and no shorter string.
    CHECK(!CheckKeptSets(codes, size + 1, vocab).ok());
    CHECK(!CheckKeptSets(codes, size - 1, vocab).ok());
    CHECK(!CheckKeptSets(std::string_view(codes).substr(0, codes.size() - 1), size, vocab).ok());
  }
}

TEST_CASE("KeptSets: broken codes are refused", "[unit][law]") {
  const auto refuses = [](std::string codes, int64_t vocab) {
    return KeptSets::Parse(std::move(codes), 1, vocab).status().code() ==
           StatusCode::kInvalidArgument;
  };
  CHECK(refuses("", 10));
  CHECK(refuses(Bytes({4}), 10));                                   // "all" that counts something
  CHECK(refuses(Bytes({1}), 10));                                   // keeps nothing
  CHECK(refuses(Bytes({5, 10}), 10));                               // outside the vocabulary
  CHECK(refuses(Bytes({9, 3}), 10));                                // one id is missing
  CHECK(refuses(Bytes({0x0E, 0, 0, 0}), 3));                        // excludes everything
  CHECK(refuses(Bytes({7}), 10));                                   // repeats what is not there
  CHECK(refuses(Bytes({5, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1}), 10));  // a number without end
  CHECK(!refuses(Bytes({5, 9}), 10));
}

TEST_CASE("KeptSets: random bytes never crash", "[unit][law]") {
  CounterRandom random(6);
  for (int round = 0; round < 20000; ++round) {
    std::string codes;
    const uint64_t size = random.Below(12);
    for (uint64_t i = 0; i < size; ++i) {
      codes.push_back(static_cast<char>(random.Below(random.Below(2) == 0 ? 16 : 256)));
    }
    const auto vocab = static_cast<int64_t>(1 + random.Below(20));
    const auto read = KeptSets::Parse(codes, static_cast<int64_t>(random.Below(4)), vocab);
    if (!read.ok()) continue;
    for (int64_t n = 0; n < read->num_tokens(); ++n) {
      std::vector<int32_t> kept;
      if (!read->IsAll(n)) read->Decode(n, &kept);
      for (const int32_t id : kept) REQUIRE(read->Contains(n, id));
    }
  }
}

TEST_CASE("KeptSets: a completion's codes are bounded", "[unit][law]") {
  KeptSetWriter writer;
  std::string codes(kMaxKeptSetBytes - 2, '\0');
  const std::vector<int32_t> kept = {1, 5, 9};
  CHECK(writer.Append(kept, 1000, &codes).code() == StatusCode::kResourceExhausted);
  CHECK(codes.size() == kMaxKeptSetBytes - 2);
}

}  // namespace rollcall
