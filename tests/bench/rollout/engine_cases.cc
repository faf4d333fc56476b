#include "tests/bench/rollout/engine_cases.h"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

namespace rollcall {
namespace {

class Stopwatch {
 public:
  double Seconds() const {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin_;
    return passed.count();
  }

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

struct Prompt {
  int32_t num_new = 0;
  std::vector<int32_t> tokens;
};

StatusOr<std::vector<Prompt>> ReadWork(const std::string& path) {
  std::ifstream file(path);
  std::vector<Prompt> work;
  for (std::string line; std::getline(file, line);) {
    std::istringstream numbers(line);
    Prompt prompt;
    numbers >> prompt.num_new;
    for (int32_t token = 0; numbers >> token;) prompt.tokens.push_back(token);
    work.push_back(std::move(prompt));
  }
  if (work.empty()) return NotFound("there is no work in '" + path + "'");
  return work;
}

// Caches, branch predictors and the allocator before the clock starts.
Status WarmUp(EngineRig& rig) {
  ROLLCALL_RETURN_IF_ERROR(rig.AddRandom(1, 16, 1, 4));
  return rig.RunAll();
}

}  // namespace

Status RunWork(RigOptions options, const std::string& work_path) {
  ROLLCALL_ASSIGN_OR_RETURN(auto work, ReadWork(work_path));
  // Room for everything at once and a few partly filled blocks.
  options.kv_tokens = 64;
  for (const Prompt& prompt : work) {
    options.kv_tokens += static_cast<int64_t>(prompt.tokens.size()) + prompt.num_new + 32;
  }
  ROLLCALL_ASSIGN_OR_RETURN(const auto rig, EngineRig::Make(options));
  ROLLCALL_RETURN_IF_ERROR(WarmUp(*rig));
  const int64_t sampled_before = rig->num_sampled();
  const Stopwatch watch;
  for (Prompt& prompt : work) {
    ROLLCALL_RETURN_IF_ERROR(rig->Add(std::move(prompt.tokens), 1, prompt.num_new));
  }
  int64_t used_slots = 0;
  int64_t filled_slots = 0;
  while (rig->engine().has_work()) {
    ROLLCALL_RETURN_IF_ERROR(rig->Step());
    const KvCache& cache = rig->engine().cache();
    used_slots += int64_t{cache.num_used()} * cache.block_size();
    filled_slots += rig->num_cached();
  }
  const double seconds = watch.Seconds();
  std::printf("{\"seconds\": %.6f, \"tokens\": %lld, \"preempted\": %lld, \"empty_slots\": %.6f}\n",
              seconds, static_cast<long long>(rig->num_sampled() - sampled_before),
              static_cast<long long>(rig->num_preempted()),
              1.0 - static_cast<double>(filled_slots) / static_cast<double>(used_slots));
  return OkStatus();
}

Status RunDecode(RigOptions options, const DecodeCase& shape) {
  const int64_t length = int64_t{shape.prompt_tokens} + shape.new_tokens + 32;
  options.kv_tokens = length * shape.num_sequences + 64;
  ROLLCALL_ASSIGN_OR_RETURN(const auto rig, EngineRig::Make(options));
  ROLLCALL_RETURN_IF_ERROR(WarmUp(*rig));
  // One more than is timed: the first token belongs to the prefill.
  ROLLCALL_RETURN_IF_ERROR(
      rig->AddRandom(shape.num_sequences, shape.prompt_tokens, 1, shape.new_tokens + 1));
  const int64_t completed_before = rig->num_completed();
  const int64_t prefilled_before = rig->num_prefilled();
  const int64_t prompt_tokens = int64_t{shape.prompt_tokens} * shape.num_sequences;
  const Stopwatch prefill;
  while (rig->num_prefilled() - prefilled_before < prompt_tokens) {
    ROLLCALL_RETURN_IF_ERROR(rig->Step());
  }
  const double prefill_seconds = prefill.Seconds();
  const int64_t sampled_before = rig->num_sampled();
  const Stopwatch decode;
  while (rig->num_completed() == completed_before) ROLLCALL_RETURN_IF_ERROR(rig->Step());
  const double decode_seconds = decode.Seconds();
  std::printf(
      "{\"prefill_seconds\": %.6f, \"prefill_tokens\": %lld, \"decode_seconds\": %.6f, "
      "\"decode_tokens\": %lld}\n",
      prefill_seconds, static_cast<long long>(prompt_tokens), decode_seconds,
      static_cast<long long>(rig->num_sampled() - sampled_before));
  return OkStatus();
}

Status RunGroup(RigOptions options, int32_t num_samples) {
  constexpr int32_t kPromptTokens = 256;
  constexpr int32_t kNewTokens = 32;
  options.kv_tokens = kPromptTokens + int64_t{num_samples} * (kPromptTokens + kNewTokens);
  ROLLCALL_ASSIGN_OR_RETURN(const auto rig, EngineRig::Make(options));
  ROLLCALL_RETURN_IF_ERROR(rig->AddRandom(1, kPromptTokens, num_samples, kNewTokens));
  ROLLCALL_RETURN_IF_ERROR(rig->RunAll());
  std::printf("{\"prompt_tokens\": %d, \"prefilled_tokens\": %lld, \"samples\": %lld}\n",
              kPromptTokens, static_cast<long long>(rig->num_prefilled()),
              static_cast<long long>(rig->num_completed()));
  return OkStatus();
}

}  // namespace rollcall
