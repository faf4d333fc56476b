#include "services/model/decoder/packed_weights.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <utility>

#include <ATen/ops/from_blob.h>

#include "services/base/runtime/mapped_memory.h"
#include "services/model/kernels/linear.h"
#include "services/model/layers/forward.h"

namespace rollcall {
namespace {

// Every matrix of a layer, in the order in which a step reads them.
template <typename Weights>
auto Matrices(Weights& w) {
  if constexpr (std::is_same_v<std::remove_const_t<Weights>, LayerWeights>) {
    return std::array{&w.q_proj_OE,    &w.k_proj_OE,  &w.v_proj_OE,   &w.o_proj_EO,
                      &w.gate_proj_FE, &w.up_proj_FE, &w.down_proj_EF};
  } else {
    return std::array{&w.q_proj,    &w.k_proj,  &w.v_proj,   &w.o_proj,
                      &w.gate_proj, &w.up_proj, &w.down_proj};
  }
}

constexpr size_t kAlignment = 64;

// At least what a matrix takes in any format, its alignment included. Undefined stays undefined: a
// plain feed-forward block has no gate.
size_t RoomFor(const at::Tensor& w_OK) {
  if (!w_OK.defined()) return 0;
  constexpr int64_t kMostHeadSteps = 8;
  const int64_t size = PackedSize(w_OK.size(0), w_OK.size(1) + kMostHeadSteps);
  return static_cast<size_t>(size) * sizeof(float) + kAlignment;
}

// Matrices one behind the other in huge pages: a step reads them all, and many small pages would
// cost as much as the reading.
class Arena {
 public:
  explicit Arena(size_t size_bytes) {
    auto memory = MappedMemory::Map(size_bytes);
    if (!memory.ok()) throw std::runtime_error(Message(memory.status()));
    memory_ = *std::move(memory);
    next_ = memory_->data();
  }

  at::Tensor Keep(const at::Tensor& packed) {
    std::byte* const data = next_;
    std::memcpy(data, packed.const_data_ptr(), packed.nbytes());
    next_ += (packed.nbytes() + kAlignment - 1) / kAlignment * kAlignment;
    // The view keeps the memory.
    return at::from_blob(data, packed.sizes(), [memory = memory_](void*) {}, packed.options());
  }

 private:
  std::shared_ptr<MappedMemory> memory_;
  std::byte* next_ = nullptr;
};

}  // namespace

StatusOr<std::shared_ptr<const PackedWeights>> PackWeights(const ModelWeights& weights,
                                                           Quantization quantization) {
  using Result = StatusOr<std::shared_ptr<const PackedWeights>>;
  return GuardExceptions("packing weights", [&]() -> Result {
    size_t room = RoomFor(weights.lm_head_VE);
    for (const LayerWeights& layer : weights.layers) {
      for (const at::Tensor* w_OK : Matrices(layer)) room += RoomFor(*w_OK);
    }
    Arena arena(room);
    const auto pack = [&](const at::Tensor& w_OK) {
      if (!w_OK.defined()) return at::Tensor();
      return arena.Keep(forward::Pack(w_OK, weights.config.precision, quantization));
    };
    auto packed = std::make_shared<PackedWeights>();
    packed->layers.resize(weights.layers.size());
    for (size_t i = 0; i < weights.layers.size(); ++i) {
      const auto from = Matrices(weights.layers[i]);
      const auto to = Matrices(packed->layers[i]);
      for (size_t m = 0; m < from.size(); ++m) *to[m] = pack(*from[m]);
    }
    packed->lm_head = pack(weights.lm_head_VE);
    return packed;
  });
}

}  // namespace rollcall
