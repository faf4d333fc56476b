// llama.cpp as a yardstick for `./dev bench rollout`, built by it against llama.h alone:
//   llama_rollout run MODEL.gguf WORK THREADS SLOTS   the work by continuous batching over SLOTS
//                                                     sequences; prints seconds and useful tokens
//   llama_rollout logits MODEL.gguf WORK THREADS      logits after the first prompt, to check the
//   file
// A line of WORK is one prompt: how many tokens to sample, then the prompt's tokens. Sampling is
// llama.cpp's own at temperature 1; every sequence has an own part of the KV cache, which is faster
// here than a unified one.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "llama.h"

namespace {

constexpr int kBatchTokens = 2048;

struct Request {
  int num_new = 0;
  std::vector<llama_token> prompt;
};

struct Slot {
  const Request* request = nullptr;
  int num_sampled = 0;
  llama_token last = 0;
  int output = -1;  // its row in the batch that runs
};

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "error: %s\n", what.c_str());
  std::exit(1);
}

std::vector<Request> ReadWork(const std::string& path) {
  std::vector<Request> work;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream numbers(line);
    Request request;
    numbers >> request.num_new;
    for (llama_token token = 0; numbers >> token;) request.prompt.push_back(token);
    work.push_back(std::move(request));
  }
  if (work.empty()) Fail("no work in " + path);
  return work;
}

class Batch {
 public:
  Batch() : batch_(llama_batch_init(kBatchTokens, 0, 1)) {}
  ~Batch() { llama_batch_free(batch_); }
  int Add(llama_token token, int position, int sequence, bool wants_logits) {
    const int row = batch_.n_tokens++;
    batch_.token[row] = token;
    batch_.pos[row] = position;
    batch_.n_seq_id[row] = 1;
    batch_.seq_id[row][0] = sequence;
    batch_.logits[row] = static_cast<int8_t>(wants_logits);
    return row;
  }
  int AddPrompt(const std::vector<llama_token>& prompt, int sequence) {
    int row = -1;
    for (size_t i = 0; i < prompt.size(); ++i) {
      row = Add(prompt[i], static_cast<int>(i), sequence, i + 1 == prompt.size());
    }
    return row;
  }
  bool HasRoom(size_t num_tokens) const { return batch_.n_tokens + num_tokens <= kBatchTokens; }
  void Decode(llama_context* context) {
    if (llama_decode(context, batch_) != 0) Fail("llama_decode failed");
    batch_.n_tokens = 0;
  }

 private:
  llama_batch batch_;
};

void Run(llama_context* context, const std::vector<Request>& work, int num_slots) {
  llama_sampler* sampler = llama_sampler_chain_init(llama_sampler_chain_default_params());
  llama_sampler_chain_add(sampler, llama_sampler_init_temp(1.0F));
  llama_sampler_chain_add(sampler, llama_sampler_init_dist(1));
  Batch batch;
  batch.AddPrompt({0, 0, 0, 0}, 0);  // the graph and its buffers are made at the first call
  batch.Decode(context);
  llama_memory_clear(llama_get_memory(context), true);
  std::vector<Slot> slots(num_slots);
  size_t next = 0;
  size_t num_open = work.size();
  size_t num_tokens = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (num_open > 0) {
    for (int i = 0; i < num_slots; ++i) {
      Slot& slot = slots[i];
      if (slot.request == nullptr) continue;
      const int position = static_cast<int>(slot.request->prompt.size()) + slot.num_sampled - 1;
      slot.output = batch.Add(slot.last, position, i, true);
    }
    for (int i = 0; i < num_slots && next < work.size(); ++i) {
      if (slots[i].request != nullptr) continue;
      if (!batch.HasRoom(work[next].prompt.size())) break;
      slots[i] = {.request = &work[next]};
      slots[i].output = batch.AddPrompt(work[next].prompt, i);
      ++next;
    }
    batch.Decode(context);
    for (int i = 0; i < num_slots; ++i) {
      Slot& slot = slots[i];
      if (slot.request == nullptr) continue;
      slot.last = llama_sampler_sample(sampler, context, slot.output);
      ++num_tokens;
      if (++slot.num_sampled < slot.request->num_new) continue;
      llama_memory_seq_rm(llama_get_memory(context), i, -1, -1);
      slot.request = nullptr;
      --num_open;
    }
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("{\"seconds\": %.6f, \"tokens\": %zu}\n", seconds.count(), num_tokens);
  llama_sampler_free(sampler);
}

void PrintLogits(llama_context* context, const Request& request, int vocab_size) {
  Batch batch;
  if (!batch.HasRoom(request.prompt.size())) Fail("the prompt is too long");
  const int row = batch.AddPrompt(request.prompt, 0);
  batch.Decode(context);
  const float* logits = llama_get_logits_ith(context, row);
  for (int i = 0; i < vocab_size; ++i) std::printf("%s%.9g", i == 0 ? "[" : ", ", logits[i]);
  std::printf("]\n");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (!(mode == "run" && argc == 6) && !(mode == "logits" && argc == 5)) {
    Fail("usage: llama_rollout run MODEL WORK THREADS SLOTS | logits MODEL WORK THREADS");
  }
  const std::vector<Request> work = ReadWork(argv[3]);
  const int num_threads = std::atoi(argv[4]);
  const int num_slots = mode == "run" ? std::atoi(argv[5]) : 1;
  if (num_threads < 1 || num_slots < 1) Fail("threads and slots are at least 1");
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[2], llama_model_default_params());
  if (model == nullptr) Fail(std::string("cannot load ") + argv[2]);
  size_t longest = 0;
  for (const Request& request : work) {
    longest = std::max(longest, request.prompt.size() + request.num_new);
  }
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(longest * num_slots);
  params.n_batch = kBatchTokens;
  params.n_seq_max = static_cast<uint32_t>(num_slots);
  params.n_threads = num_threads;
  params.n_threads_batch = num_threads;
  params.no_perf = true;
  params.kv_unified = false;
  if (mode == "logits") params.type_k = params.type_v = GGML_TYPE_F32;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) Fail("cannot make a context");
  if (mode == "run") {
    Run(context, work, num_slots);
  } else {
    PrintLogits(context, work.front(), llama_vocab_n_tokens(llama_model_get_vocab(model)));
  }
  llama_free(context);
  llama_model_free(model);
  llama_backend_free();
  return 0;
}
