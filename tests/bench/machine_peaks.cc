#include "tests/bench/machine_peaks.h"

#include <algorithm>
#include <chrono>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace rollcall {
namespace {

// Best rate of several rounds in which every thread does `amount`.
template <typename Fn>
double Rate(ThreadTeam& team, double amount, const Fn& fn) {
  double best = 0;
  for (int round = 0; round < 10; ++round) {
    const auto start = std::chrono::steady_clock::now();
    team.Run(team.num_threads(), [&](int64_t task, int) { fn(task); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, amount * team.num_threads() / seconds.count());
  }
  return best;
}

#if defined(__x86_64__)

constexpr int64_t kRounds = 4'000'000;
constexpr int kAccumulators = 12;

__attribute__((target("avx512f"))) float Fma512() {
  __m512 acc[kAccumulators];
  for (__m512& a : acc) a = _mm512_set1_ps(1.0F);
  const __m512 x = _mm512_set1_ps(0.5F);
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (int a = 0; a < kAccumulators; ++a) acc[a] = _mm512_fmadd_ps(acc[a], x, x);
  }
  __m512 sum = acc[0];
  for (int a = 1; a < kAccumulators; ++a) sum = _mm512_add_ps(sum, acc[a]);
  return _mm512_cvtss_f32(sum);
}

__attribute__((target("avx2,fma"))) float Fma256() {
  __m256 acc[kAccumulators];
  for (__m256& a : acc) a = _mm256_set1_ps(1.0F);
  const __m256 x = _mm256_set1_ps(0.5F);
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (int a = 0; a < kAccumulators; ++a) acc[a] = _mm256_fmadd_ps(acc[a], x, x);
  }
  __m256 sum = acc[0];
  for (int a = 1; a < kAccumulators; ++a) sum = _mm256_add_ps(sum, acc[a]);
  return _mm256_cvtss_f32(sum);
}

__attribute__((target("avx512f,avx512bf16"))) float Dot512() {
  __m512 acc[kAccumulators];
  for (__m512& a : acc) a = _mm512_set1_ps(1.0F);
  const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f00));
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (int a = 0; a < kAccumulators; ++a) acc[a] = _mm512_dpbf16_ps(acc[a], x, x);
  }
  __m512 sum = acc[0];
  for (int a = 1; a < kAccumulators; ++a) sum = _mm512_add_ps(sum, acc[a]);
  return _mm512_cvtss_f32(sum);
}

__attribute__((target("avx2"))) int64_t ReadAll(const int64_t* data, int64_t size) {
  __m256i sum[8] = {};
  for (int64_t i = 0; i + 32 <= size; i += 32) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      sum[j] = _mm256_add_epi64(
          sum[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + i + 4 * j)));
    }
  }
  __m256i all = sum[0];
  for (int j = 1; j < 8; ++j) all = _mm256_add_epi64(all, sum[j]);
  return _mm256_extract_epi64(all, 0);
}

#endif

}  // namespace

double MeasureReading(ThreadTeam& team, int64_t size_bytes) {
#if defined(__x86_64__)
  const int64_t words = size_bytes / 8 / team.num_threads();  // of each thread
  const std::vector<int64_t> memory(static_cast<size_t>(words * team.num_threads()), 1);
  std::vector<int64_t> sums(static_cast<size_t>(team.num_threads()));
  // At least 128 MiB in a round, so that its start does not count.
  const int64_t repeats = std::max<int64_t>(1, (16 << 20) / words);
  const double rate = Rate(team, 8.0 * static_cast<double>(words * repeats), [&](int64_t task) {
    for (int64_t i = 0; i < repeats; ++i) {
      asm volatile("" : : : "memory");  // so that every repeat reads
      sums[static_cast<size_t>(task)] += ReadAll(memory.data() + task * words, words);
    }
  });
  const volatile int64_t kept = sums.front();
  static_cast<void>(kept);
  return rate;
#else
  return 0;
#endif
}

MachinePeaks MeasurePeaks(ThreadTeam& team) {
  MachinePeaks peaks;
#if defined(__x86_64__)
  // What is computed must be seen to be needed.
  std::vector<double> seen(static_cast<size_t>(team.num_threads()));
  const auto keep = [&](int64_t task, double value) { seen[static_cast<size_t>(task)] += value; };
  peaks.read_bytes_per_s = MeasureReading(team, (128LL << 20) * team.num_threads());
  constexpr double kOperations = 1.0 * kRounds * kAccumulators;
  if (__builtin_cpu_supports("avx512f")) {
    peaks.fma_flop_per_s =
        Rate(team, 32 * kOperations, [&](int64_t task) { keep(task, double{Fma512()}); });
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    peaks.fma_flop_per_s =
        Rate(team, 16 * kOperations, [&](int64_t task) { keep(task, double{Fma256()}); });
  }
  if (__builtin_cpu_supports("avx512bf16")) {
    peaks.bf16_flop_per_s =
        Rate(team, 64 * kOperations, [&](int64_t task) { keep(task, double{Dot512()}); });
  }
  const volatile double kept = seen.front();
  static_cast<void>(kept);
#endif
  return peaks;
}

}  // namespace rollcall
