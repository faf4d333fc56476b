#include "services/common/data/pass_order.h"

#include <numeric>
#include <span>

#include "services/base/runtime/random.h"
#include "services/base/status/status.h"

namespace rollcall {
namespace {

// Keeps the order of the rows apart from every other stream of the same seed.
constexpr uint64_t kPassOrderStream = 0x50617373;

}  // namespace

std::vector<int64_t> PassOrder(uint64_t seed, int64_t pass, int64_t num_rows, bool shuffle) {
  ROLLCALL_CHECK(num_rows >= 0);
  std::vector<int64_t> order(static_cast<size_t>(num_rows));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (!shuffle) return order;
  const uint64_t words[] = {seed, kPassOrderStream, static_cast<uint64_t>(pass)};
  CounterRandom random(MixKey(words));
  Shuffle(std::span<int64_t>(order), random);
  return order;
}

}  // namespace rollcall
