#include "services/model/weights/model_writer.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "services/base/runtime/random.h"
#include "services/common/storage/files.h"
#include "services/model/weights/disk_layout.h"
#include "services/model/weights/model_files.h"
#include "services/model/weights/random_init.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::TempDir;

ModelConfig Config(const std::string& model_type = "llama") {
  ModelConfig config{.vocab_size = 96,
                     .hidden_size = 32,
                     .intermediate_size = 48,
                     .num_layers = 3,
                     .num_heads = 4,
                     .num_kv_heads = model_type == "gpt2" || model_type == "gpt_neox" ? 4 : 2,
                     .head_dim = 8,
                     .max_positions = 32};
  REQUIRE_OK(SetModelType(model_type, &config));
  return config;
}

std::vector<float> Arena(const ModelConfig& config) {
  std::vector<float> arena(
      static_cast<size_t>(ArenaValues(ArenaLayout(ListParameters(config, Head::kLanguageModel)))));
  FillInitialValues(config, Head::kLanguageModel, 7, arena);
  return arena;
}

std::vector<float> ReadBack(const std::string& directory, const ModelConfig& config) {
  REQUIRE_OK_AND_ASSIGN(const ModelFiles files, ModelFiles::Open(directory));
  std::vector<float> arena(Arena(config).size(), 0.0F);
  REQUIRE_OK(ReadParameters(files, Head::kLanguageModel, arena));
  return arena;
}

int CountFiles(const std::string& directory, const std::string& suffix) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    count += entry.path().filename().string().ends_with(suffix) ? 1 : 0;
  }
  return count;
}

// Value of the high-water mark of resident memory, in bytes; `Reset` starts it anew from now.
void ResetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }
int64_t StatusBytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return -1;
}

TEST_CASE("WriteModelDirectory: shards hold every tensor once and read back, for every layout",
          "[unit][model]") {
  for (const char* type : {"llama", "gpt2", "gpt_neox", "phi3"}) {
    const ModelConfig config = Config(type);
    const std::vector<float> arena = Arena(config);
    const TempDir dir;
    INFO(type);
    REQUIRE_OK(WriteModelDirectory(dir.path().string(), config, Head::kLanguageModel, arena,
                                   {.max_shard_bytes = 20'000}));
    CHECK(CountFiles(dir.path().string(), ".safetensors") > 3);
    CHECK(CountFiles(dir.path().string(), ".index.json") == 1);
    CHECK(ReadBack(dir.path().string(), config) == arena);
    for (const auto& entry : std::filesystem::directory_iterator(dir.path().string())) {
      // A tensor that is larger has a file of its own; 8 KiB are enough for any header here.
      if (entry.path().extension() == ".safetensors") CHECK(entry.file_size() < 20'000 + 8192);
    }
    REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo info, CheckModelDirectory(dir.path().string()));
    CHECK(info.num_files == CountFiles(dir.path().string(), ".safetensors"));

    // In one file again, and the shards are gone.
    REQUIRE_OK(WriteModelDirectory(dir.path().string(), config, Head::kLanguageModel, arena));
    CHECK(CountFiles(dir.path().string(), ".safetensors") == 1);
    CHECK(CountFiles(dir.path().string(), ".index.json") == 0);
    CHECK(ReadBack(dir.path().string(), config) == arena);
  }
}

TEST_CASE("WriteModelDirectory: half the bytes, rounded to nearest even", "[unit][model]") {
  const ModelConfig config = Config("gpt2");
  const std::vector<float> arena = Arena(config);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const TempDir dir;
    REQUIRE_OK(WriteModelDirectory(dir.path().string(), config, Head::kLanguageModel, arena,
                                   {.dtype = dtype, .max_shard_bytes = 20'000}));
    REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo info, CheckModelDirectory(dir.path().string()));
    CHECK(info.dtype == dtype);
    CHECK(info.size_bytes == static_cast<uint64_t>(2 * NumParameters(config)));
    const double unit = dtype == DType::kBF16 ? 0x1p-8 : 0x1p-11;
    const std::vector<float> read = ReadBack(dir.path().string(), config);
    for (size_t i = 0; i < arena.size(); ++i) {
      REQUIRE(std::abs(read[i] - arena[i]) <= unit * std::abs(arena[i]) + 0x1p-25);
    }
    // What was rounded once stays.
    const TempDir again;
    REQUIRE_OK(WriteModelDirectory(again.path().string(), config, Head::kLanguageModel, read,
                                   {.dtype = dtype}));
    CHECK(ReadBack(again.path().string(), config) == read);
  }
}

TEST_CASE("ConvertFromFloat: every half and every bfloat survives; ties go to even",
          "[unit][model]") {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    std::vector<std::byte> all(2 * 65536);
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const auto half = static_cast<uint16_t>(bits);
      std::memcpy(all.data() + 2 * size_t{bits}, &half, 2);
    }
    std::vector<float> values(65536);
    ConvertToFloat(dtype, all, values);
    std::vector<std::byte> back(all.size());
    REQUIRE_OK(ConvertFromFloat(dtype, values, back));
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      if (std::isnan(values[bits])) continue;
      REQUIRE(std::memcmp(all.data() + 2 * size_t{bits}, back.data() + 2 * size_t{bits}, 2) == 0);
    }
    // Half way between neighbours, and a little beyond.
    for (uint32_t bits = 1; bits < 0x7b00; ++bits) {
      const double low = values[bits];
      const double high = values[bits + 1];
      const float middle = static_cast<float>((low + high) / 2);
      const float inputs[] = {middle,
                              std::nextafter(middle, std::numeric_limits<float>::infinity()),
                              std::nextafter(middle, 0.0F)};
      const uint32_t wanted[] = {bits + (bits & 1), bits + 1, bits};
      std::vector<std::byte> out(6);
      REQUIRE_OK(ConvertFromFloat(dtype, inputs, out));
      for (size_t i = 0; i < 3; ++i) {
        uint16_t got = 0;
        std::memcpy(&got, out.data() + 2 * i, 2);
        REQUIRE(got == wanted[i]);
      }
    }
  }
}

TEST_CASE("WriteModelDirectory: a value that F16 cannot hold is refused by tensor",
          "[unit][model]") {
  const ModelConfig config = Config();
  std::vector<float> arena = Arena(config);
  arena[5] = 70000.0F;
  const TempDir dir;
  const auto status = WriteModelDirectory(dir.path().string(), config, Head::kLanguageModel, arena,
                                          {.dtype = DType::kF16});
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(Message(status).find("model.embed_tokens.weight") != std::string::npos);
  REQUIRE_OK(WriteModelDirectory(dir.path().string(), config, Head::kLanguageModel, arena,
                                 {.dtype = DType::kBF16}));
}

TEST_CASE("ReadParameters: loading takes the memory of the model and at most one shard",
          "[unit][model]") {
  ModelConfig config = Config();
  config.hidden_size = 512;
  config.head_dim = 128;
  config.intermediate_size = 2048;
  config.num_layers = 6;
  config.vocab_size = 8192;
  const TempDir dir;
  constexpr int64_t kShardBytes = 16 << 20;
  const auto values =
      static_cast<size_t>(ArenaValues(ArenaLayout(ListParameters(config, Head::kLanguageModel))));
  {
    const std::vector<float> arena(values, 0.25F);
    REQUIRE_OK(WriteModelDirectory(dir.path().string(), config, Head::kLanguageModel, arena,
                                   {.max_shard_bytes = kShardBytes}));
  }
  const auto model_bytes = static_cast<int64_t>(values * sizeof(float));
  REQUIRE(model_bytes > 4 * kShardBytes);
  std::vector<float> arena(values, 0.0F);  // touched: the model's own memory is there already
  ResetPeak();
  const int64_t before = StatusBytes("VmRSS:");
  REQUIRE_OK_AND_ASSIGN(const ModelFiles files, ModelFiles::Open(dir.path().string()));
  REQUIRE_OK(ReadParameters(files, Head::kLanguageModel, arena));
  const int64_t peak = StatusBytes("VmHWM:");
  CHECK(arena.front() == 0.25F);
  INFO("peak " << peak << " before " << before << " model " << model_bytes);
  CHECK(peak - before <= kShardBytes + (8 << 20));
}

}  // namespace
}  // namespace rollcall
