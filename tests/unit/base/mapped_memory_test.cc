#include "services/base/runtime/mapped_memory.h"

#include <cstdint>
#include <limits>

#include "tests/support/catch.h"

namespace rollcall {
namespace {

TEST_CASE("MappedMemory: starts as zeros and holds what is written", "[unit][base]") {
  for (const size_t size : {size_t{1}, size_t{4096}, size_t{5} << 20}) {
    REQUIRE_OK_AND_ASSIGN(const auto memory, MappedMemory::Map(size));
    std::byte* data = memory->data();
    CHECK(reinterpret_cast<uintptr_t>(data) % (size_t{2} << 20) == 0);
    CHECK(data[0] == std::byte{0});
    CHECK(data[size - 1] == std::byte{0});
    data[0] = std::byte{7};
    data[size - 1] = std::byte{9};
    CHECK(data[size - 1] == std::byte{9});
  }
}

TEST_CASE("MappedMemory: what nobody has is refused", "[unit][base]") {
  for (const size_t size : {std::numeric_limits<size_t>::max(), size_t{1} << 60}) {
    CHECK(MappedMemory::Map(size).status().code() == StatusCode::kResourceExhausted);
  }
}

}  // namespace
}  // namespace rollcall
