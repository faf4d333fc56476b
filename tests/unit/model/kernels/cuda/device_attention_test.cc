// Device attention over paged keys: against the CPU's kernel over random shapes, and bit for bit
// over every cutting of the work.
#include "tests/unit/model/kernels/cuda/paged_batch.h"

namespace rollcall {
namespace {

// Averages of normal values over some keys; sums of another order than on the CPU.
void RequireClose(std::span<const float> got, std::span<const float> want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(double{got[i]} - want[i]);
    if (difference <= 3e-6 + 1e-5 * std::abs(double{want[i]})) continue;
    FAIL("element " << i << " is " << got[i] << ", not " << want[i]);
  }
}

AttentionCase RandomCase(CounterRandom& random) {
  constexpr int64_t kDims[] = {32, 64, 80, 96, 128, 256};
  constexpr int64_t kBlockSizes[] = {16, 32, 5, 1};
  constexpr int64_t kWindows[] = {0, 0, 1, 50, 600};
  AttentionCase shape;
  shape.num_kv_heads = static_cast<int64_t>(1 + random.Below(2));
  shape.num_heads = shape.num_kv_heads * static_cast<int64_t>(1 + random.Below(8));
  shape.head_dim = kDims[random.Below(6)];
  shape.block_size = kBlockSizes[random.Below(4)];
  shape.dtype = random.Below(2) == 0 ? DeviceDType::kF32 : DeviceDType::kBf16;
  shape.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)));
  shape.softcap = random.Below(3) == 0 ? 2.0F : 0.0F;
  shape.window = kWindows[random.Below(5)];
  return shape;
}

void RequireLikeCpu(const AttentionCase& shape, const std::vector<AttentionPart>& parts,
                    const Floats& got) {
  size_t at = 0;
  for (const AttentionPart& part : parts) {
    if (part.count == 0) continue;
    const Floats want = OnCpu(shape, part);
    RequireClose(std::span(got).subspan(at, want.size()), want);
    at += want.size();
  }
  REQUIRE(at == got.size());
}

TEST_CASE("Device attention: decode steps of random batches are as on the CPU", "[unit][model]") {
  for (uint64_t round = 0; round < 20; ++round) {
    CounterRandom random(100 + round);
    const AttentionCase shape = RandomCase(random);
    INFO("round " << round << " heads " << shape.num_heads << "/" << shape.num_kv_heads << " dim "
                  << shape.head_dim << " block " << shape.block_size << " window " << shape.window);
    std::vector<AttentionSequence> sequences;
    for (int i = 0; i < 3; ++i) {
      const auto length = static_cast<int64_t>(1 + random.Below(round % 4 == 0 ? 2000 : 200));
      sequences.push_back(RandomSequence(random, shape, length));
    }
    std::vector<AttentionPart> parts;
    for (const AttentionSequence& s : sequences) parts.push_back({&s, s.num_tokens - 1, 1});
    parts.insert(parts.begin() + 1, AttentionPart{});
    const EmulatorOrder order(kOrders[round % 3], round);
    PagedBatch batch(random, shape, parts);
    RequireLikeCpu(shape, parts, batch.Run(round % 2 == 0 ? 0 : 700));
  }
}

TEST_CASE("Device attention: prompts, chunks and decode steps in one call are as on the CPU",
          "[unit][model]") {
  for (uint64_t round = 0; round < 12; ++round) {
    CounterRandom random(200 + round);
    const AttentionCase shape = RandomCase(random);
    INFO("round " << round << " heads " << shape.num_heads << "/" << shape.num_kv_heads << " dim "
                  << shape.head_dim << " block " << shape.block_size << " window " << shape.window);
    const AttentionSequence prompt =
        RandomSequence(random, shape, static_cast<int64_t>(20 + random.Below(60)));
    const AttentionSequence chunked =
        RandomSequence(random, shape, static_cast<int64_t>(500 + random.Below(200)));
    const AttentionSequence decoding =
        RandomSequence(random, shape, static_cast<int64_t>(1 + random.Below(600)));
    const std::vector<AttentionPart> parts = {{&prompt, 0, prompt.num_tokens},
                                              {&decoding, decoding.num_tokens - 1, 1},
                                              {&chunked, chunked.num_tokens - 23, 23},
                                              {&prompt, 0, 3}};
    const EmulatorOrder order(kOrders[round % 3], round);
    PagedBatch batch(random, shape, parts);
    RequireLikeCpu(shape, parts, batch.Run());
  }
}

TEST_CASE("Device attention: groups larger than a block's rows", "[unit][model]") {
  CounterRandom random(300);
  const AttentionCase shape{.num_heads = 40, .num_kv_heads = 2, .head_dim = 32};
  const AttentionSequence a = RandomSequence(random, shape, 130);
  const AttentionSequence b = RandomSequence(random, shape, 9);
  const std::vector<AttentionPart> parts = {{&a, 129, 1}, {&b, 0, 9}};
  PagedBatch batch(random, shape, parts);
  RequireLikeCpu(shape, parts, batch.Run());
}

// All queries of the sequence, in calls of `chunk` queries.
Floats InChunks(CounterRandom& random, const AttentionCase& shape,
                const AttentionSequence& sequence, int64_t chunk) {
  Floats out;
  for (int64_t first = 0; first < sequence.num_tokens; first += chunk) {
    const int64_t count = std::min(chunk, sequence.num_tokens - first);
    PagedBatch batch(random, shape, {{&sequence, first, count}});
    const Floats part = batch.Run();
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

TEST_CASE("Device attention: decode, prompt and chunks give the same bits", "[unit][model]") {
  struct Law {
    float softcap;
    int64_t window;
  };
  CounterRandom random(400);
  for (const Law& law : {Law{0, 0}, Law{0, 70}, Law{1.5F, 0}, Law{1.5F, 9}}) {
    for (const DeviceDType dtype : {DeviceDType::kF32, DeviceDType::kBf16}) {
      AttentionCase shape{.num_heads = 4,
                          .num_kv_heads = 2,
                          .head_dim = 40,
                          .dtype = dtype,
                          .softcap = law.softcap,
                          .window = law.window};
      const AttentionSequence sequence = RandomSequence(random, shape, 131);
      const Floats whole = InChunks(random, shape, sequence, 131);
      for (const int64_t chunk : {1, 8, 9, 64}) {
        for (const int64_t block_size : {16, 7}) {
          INFO("cap " << law.softcap << " window " << law.window << " chunk " << chunk << " block "
                      << block_size);
          shape.block_size = block_size;
          const EmulatorOrder order(EmulatorOrder::Kind::kRandom, static_cast<uint64_t>(chunk));
          REQUIRE(SameBits(InChunks(random, shape, sequence, chunk), whole));
        }
      }
    }
  }
}

TEST_CASE("Device attention: bits are the same beyond a split, in any batch", "[unit][model]") {
  CounterRandom random(500);
  const AttentionCase shape{.num_heads = 3, .num_kv_heads = 1, .head_dim = 64};
  const AttentionSequence sequence = RandomSequence(random, shape, 1300);
  const AttentionSequence other = RandomSequence(random, shape, 700);
  const int64_t width = shape.num_heads * shape.head_dim;
  PagedBatch whole(random, shape, {{&sequence, 1270, 30}});
  const Floats want = whole.Run();
  for (const int64_t position : {1270, 1281, 1299}) {
    PagedBatch batch(random, shape, {{&other, 650, 50}, {&sequence, position, 1}, {&other, 3, 1}});
    const Floats got = batch.Run(5000);
    CHECK(std::memcmp(got.data() + 50 * width, want.data() + (position - 1270) * width,
                      static_cast<size_t>(width) * sizeof(float)) == 0);
  }
}

TEST_CASE("Device attention: blocks before the window may be gone", "[unit][model]") {
  CounterRandom random(600);
  AttentionCase shape{.num_heads = 2, .num_kv_heads = 1, .head_dim = 32, .window = 20};
  const AttentionSequence sequence = RandomSequence(random, shape, 700);
  for (const int64_t count : {1, 30}) {
    const AttentionPart part{&sequence, 700 - count, count};
    PagedBatch batch(random, shape, {part});
    const int64_t first_seen = 700 - count + 1 - 20;
    for (int64_t i = 0; i < first_seen / 16; ++i) batch.Table(0)[i] = -1000000;
    RequireLikeCpu(shape, {part}, batch.Run());
  }
}

TEST_CASE("Device attention: refuses what it cannot compute", "[unit][model]") {
  float memory[8] = {};
  DeviceAttentionArgs args{.kv = {.pool = memory, .head_dim = 64}, .workspace = memory};
  CHECK(kEmulatedKernels.attention(args, nullptr) == 0);  // no sequences
  args.kv.head_dim = 36;
  CHECK(kEmulatedKernels.attention(args, nullptr) != 0);
  args.kv.head_dim = 264;
  CHECK(kEmulatedKernels.attention(args, nullptr) != 0);
  args.kv.head_dim = 64;
  args.kv.num_kv_heads = 2;
  args.num_heads = 3;
  CHECK(kEmulatedKernels.attention(args, nullptr) != 0);
  args.num_heads = 4;
  args.workspace = nullptr;
  CHECK(kEmulatedKernels.attention(args, nullptr) != 0);
}

TEST_CASE("Device KV blocks: append writes its slots and nothing else", "[unit][model]") {
  CounterRandom random(700);
  const int64_t width = 2 * 8;
  for (const DeviceDType dtype : {DeviceDType::kF32, DeviceDType::kBf16}) {
    Floats floats(3 * 4 * width * 3, -1.0F);
    std::vector<uint16_t> halves(floats.size(), Bf16Of(-1.0F));
    const int64_t stride = 4 * width * 3;  // a gap after keys and values
    const DeviceKvLayer kv{.pool = dtype == DeviceDType::kF32 ? static_cast<void*>(floats.data())
                                                              : static_cast<void*>(halves.data()),
                           .dtype = dtype,
                           .block_stride = stride,
                           .k_offset = 4 * width,
                           .v_offset = 0,
                           .block_size = 4,
                           .num_kv_heads = 2,
                           .head_dim = 8};
    const Floats k = RandomFloats(random, 3 * width);
    const Floats v = RandomFloats(random, 3 * width);
    const std::vector<int32_t> slots = {9, -1, 2};
    REQUIRE(kEmulatedKernels.kv_append(
                {.kv = kv, .k = k.data(), .v = v.data(), .slots = slots.data(), .num_rows = 3},
                nullptr) == 0);
    Floats want(floats.size(), -1.0F);
    for (const int64_t row : {0, 2}) {
      for (int64_t i = 0; i < width; ++i) {
        const int64_t at = slots[row] / 4 * stride + (i / 8 * 4 + slots[row] % 4) * 8 + i % 8;
        want[at + 4 * width] = k[row * width + i];
        want[at] = v[row * width + i];
      }
    }
    if (dtype == DeviceDType::kF32) {
      CHECK(SameBits(floats, want));
    } else {
      CHECK(halves == Bf16sOf(want));
    }
  }
}

TEST_CASE("Device KV blocks: whole blocks are copied", "[unit][model]") {
  CounterRandom random(800);
  const int64_t floats_per_block = 1028;  // more than one block of threads
  Floats pool = RandomFloats(random, 6 * floats_per_block);
  Floats want = pool;
  const std::vector<int32_t> pairs = {0, 5, 2, 1};
  for (size_t i = 0; i < pairs.size(); i += 2) {
    std::copy_n(pool.begin() + pairs[i] * floats_per_block, floats_per_block,
                want.begin() + pairs[i + 1] * floats_per_block);
  }
  REQUIRE(kEmulatedKernels.copy_blocks({.pool = pool.data(),
                                        .block_bytes = floats_per_block * 4,
                                        .pairs = pairs.data(),
                                        .num_pairs = 2},
                                       nullptr) == 0);
  CHECK(SameBits(pool, want));
}

}  // namespace
}  // namespace rollcall
