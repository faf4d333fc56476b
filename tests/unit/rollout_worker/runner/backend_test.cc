// Names of devices.
#include "rollout_worker/runner/backend.h"

#include <string>

#include "tests/support/catch.h"

namespace rollcall {
namespace {

TEST_CASE("OpenBackend: the CPU runs a model that it has built", "[unit][engine]") {
  REQUIRE_OK_AND_ASSIGN(const auto backend, OpenBackend("cpu", Products::kLibrary));
  ModelConfig config;
  config.vocab_size = 16;
  config.hidden_size = 8;
  config.intermediate_size = 8;
  config.num_layers = 1;
  config.num_heads = config.num_kv_heads = 1;
  config.head_dim = 8;
  config.max_positions = 8;
  REQUIRE_OK_AND_ASSIGN(const auto runner, backend->MakeRunner(config, {.num_blocks = 2}));
  CHECK(runner->block_bytes() == KvBlockBytes(config, 16));
  CHECK(backend->BuildModel(config, {}, {}, Quantization::kNone).status().code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("OpenBackend: other names are refused", "[unit][engine]") {
  for (const char* name : {"", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:x", "cuda:1x", "CPU"}) {
    INFO(name);
    const auto backend = OpenBackend(name, Products::kLibrary);
    CHECK(backend.status().code() == StatusCode::kInvalidArgument);
  }
  // Here without CUDA; with it, there are not that many GPUs.
  CHECK_FALSE(OpenBackend("cuda:4096", Products::kOrdered).ok());
}

}  // namespace
}  // namespace rollcall
