#include "services/model/weights/model_files.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "services/common/storage/files.h"
#include "services/model/weights/init_model.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall {
namespace {

using testing::TempDir;

ModelConfig TinyConfig() {
  return {.vocab_size = 11,
          .hidden_size = 8,
          .intermediate_size = 12,
          .num_layers = 2,
          .num_heads = 2,
          .num_kv_heads = 1,
          .head_dim = 4,
          .max_positions = 16};
}

std::string Read(const std::string& path) {
  REQUIRE_OK_AND_ASSIGN(std::string text, ReadFile(path, 1 << 20));
  return text;
}

// A model directory of tensors that hold their index, with changes.
struct Draft {
  ModelConfig config = TinyConfig();
  std::vector<SafetensorsView> views;
  std::vector<float> values = std::vector<float>(4096, 0.5F);

  explicit Draft(Head head = Head::kLanguageModel, ModelConfig given = TinyConfig())
      : config(given) {
    for (const ParameterSpec& parameter : ListParameters(config, head)) {
      views.push_back({.name = parameter.name, .shape = parameter.shape});
      Fill(views.back());
    }
  }
  void Fill(SafetensorsView& view) const {
    size_t size_bytes = DTypeSize(view.dtype);
    for (const int64_t size : view.shape) size_bytes *= static_cast<size_t>(size);
    view.data = std::as_bytes(std::span(values)).first(size_bytes);
  }
  SafetensorsView& View(const std::string& name) {
    for (SafetensorsView& view : views) {
      if (view.name == name) return view;
    }
    FAIL("no " << name);
    return views.front();
  }
  void Erase(const std::string& name) {
    std::erase_if(views, [&](const SafetensorsView& view) { return view.name == name; });
  }
  std::string Write(const TempDir& dir) const {
    dir.Write("m/config.json", ModelConfigToJson(config));
    REQUIRE_OK(WriteSafetensors(dir.File("m/model.safetensors"), views, {}));
    return dir.File("m");
  }
};

void CheckRefused(const std::string& directory, StatusCode code,
                  std::initializer_list<std::string> parts) {
  const Status status = CheckModelDirectory(directory).status();
  INFO(status.ToString());
  CHECK(status.code() == code);
  for (const std::string& part : parts) {
    INFO(part);
    CHECK(Message(status).find(part) != std::string::npos);
  }
}

TEST_CASE("CheckModelDirectory: says what a complete directory holds", "[unit][model]") {
  const TempDir dir;
  REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo plain, CheckModelDirectory(Draft().Write(dir)));
  CHECK(plain.num_parameters == NumParameters(TinyConfig()));
  CHECK(plain.size_bytes == 4 * static_cast<uint64_t>(plain.num_parameters));
  CHECK(plain.dtype == DType::kF32);
  CHECK(plain.num_files == 1);
  CHECK(!plain.has_value_head);
  CHECK(plain.has_output_projection);

  REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo critic,
                        CheckModelDirectory(Draft(Head::kValue).Write(dir)));
  CHECK(critic.has_value_head);
  CHECK(!critic.has_output_projection);

  ModelConfig tied = TinyConfig();
  tied.tie_word_embeddings = true;
  Draft mixed(Head::kLanguageModel, tied);
  for (SafetensorsView& view : mixed.views) {
    view.dtype = view.shape.size() == 2 ? DType::kBF16 : DType::kF32;
    mixed.Fill(view);
  }
  REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo half, CheckModelDirectory(mixed.Write(dir)));
  CHECK(half.dtype == DType::kBF16);
  CHECK(half.has_output_projection);
}

TEST_CASE("CheckModelDirectory: names file, tensor and reason", "[unit][model]") {
  const TempDir dir;
  const std::string q = "model.layers.1.self_attn.q_proj.weight";
  Draft draft;
  draft.Erase(q);
  CheckRefused(draft.Write(dir), StatusCode::kNotFound, {dir.File("m"), q, "[8, 8]", "missing"});

  draft = Draft();
  draft.View(q).shape = {64};
  CheckRefused(draft.Write(dir), StatusCode::kInvalidArgument,
               {dir.File("m/model.safetensors"), q, "[64]", "[8, 8]"});
  draft = Draft();
  draft.View("lm_head.weight").shape = {8, 11};
  CheckRefused(draft.Write(dir), StatusCode::kInvalidArgument, {"lm_head.weight", "[11, 8]"});
  draft = Draft();
  draft.Erase("lm_head.weight");
  CheckRefused(draft.Write(dir), StatusCode::kNotFound, {"lm_head.weight"});
  draft = Draft();
  draft.View(q).dtype = DType::kI32;
  draft.Fill(draft.View(q));
  CheckRefused(draft.Write(dir), StatusCode::kInvalidArgument, {q, "I32", "F32, BF16 or F16"});
  draft = Draft();
  draft.views.push_back({.name = "value_head.weight", .shape = {2, 8}});
  draft.Fill(draft.views.back());
  CheckRefused(draft.Write(dir), StatusCode::kInvalidArgument, {"value_head.weight", "[1, 8]"});

  const std::string whole = Read(Draft().Write(dir) + "/model.safetensors");
  dir.Write("m/model.safetensors", whole.substr(0, whole.size() - 1));
  CheckRefused(dir.File("m"), StatusCode::kDataLoss,
               {dir.File("m/model.safetensors"), "truncated"});
  dir.Write("m/model.safetensors", whole + "x");
  CheckRefused(dir.File("m"), StatusCode::kInvalidArgument, {dir.File("m/model.safetensors")});
  dir.Write("m/config.json", "{}");
  CheckRefused(dir.File("m"), StatusCode::kInvalidArgument, {dir.File("m/config.json")});
  dir.Write("m/config.json", std::string((1 << 20) + 1, ' '));
  CheckRefused(dir.File("m"), StatusCode::kResourceExhausted, {dir.File("m/config.json")});
}

TEST_CASE("CheckModelDirectory: a config that asks for more than the file has costs nothing",
          "[unit][model]") {
  const TempDir dir;
  const std::string directory = Draft().Write(dir);
  ModelConfig huge = TinyConfig();
  huge.vocab_size = 1 << 24;
  huge.hidden_size = 1 << 20;
  huge.num_layers = 4096;
  dir.Write("m/config.json", ModelConfigToJson(huge));
  CheckRefused(directory, StatusCode::kInvalidArgument,
               {"model.embed_tokens.weight", "[16777216, 1048576]"});
}

TEST_CASE("CheckModelDirectory: missing files", "[unit][model]") {
  const TempDir dir;
  CheckRefused(dir.File("absent"), StatusCode::kNotFound, {dir.File("absent/config.json")});
  Draft().Write(dir);
  std::filesystem::remove(dir.path() / "m/model.safetensors");
  CheckRefused(dir.File("m"), StatusCode::kNotFound, {dir.File("m/model.safetensors")});
  Draft().Write(dir);
  std::filesystem::remove(dir.path() / "m/config.json");
  CheckRefused(dir.File("m"), StatusCode::kNotFound, {dir.File("m/config.json")});
}

TEST_CASE("CheckModelDirectory: shards of an index", "[unit][model]") {
  const TempDir dir;
  Draft draft;
  const std::string directory = draft.Write(dir);
  std::filesystem::remove(dir.path() / "m/model.safetensors");
  const std::vector<SafetensorsView> head(draft.views.begin(), draft.views.begin() + 5);
  const std::vector<SafetensorsView> tail(draft.views.begin() + 5, draft.views.end());
  REQUIRE_OK(WriteSafetensors(dir.File("m/a.safetensors"), head, {}));
  REQUIRE_OK(WriteSafetensors(dir.File("m/b.safetensors"), tail, {}));
  const auto index = [&](const std::string& text) {
    dir.Write("m/model.safetensors.index.json", text);
  };
  const std::string index_path = dir.File("m/model.safetensors.index.json");
  index(R"({"metadata":{},"weight_map":{"x":"a.safetensors","y":"b.safetensors"}})");
  REQUIRE_OK_AND_ASSIGN(const ModelDirectoryInfo info, CheckModelDirectory(directory));
  CHECK(info.num_files == 2);

  index(R"({"weight_map":{"x":"a.safetensors"}})");
  CheckRefused(directory, StatusCode::kNotFound, {tail.front().name});
  index(R"({"weight_map":{"x":"a.safetensors","y":"c.safetensors"}})");
  CheckRefused(directory, StatusCode::kNotFound, {dir.File("m/c.safetensors")});
  REQUIRE_OK(WriteSafetensors(dir.File("m/c.safetensors"), {tail.back()}, {}));
  index(R"({"weight_map":{"x":"a.safetensors","y":"b.safetensors","z":"c.safetensors"}})");
  CheckRefused(directory, StatusCode::kInvalidArgument,
               {dir.File("m/c.safetensors"), tail.back().name, "another shard"});
  for (const std::string text :
       {"", "[]", "{}", "nonsense", R"({"weight_map":[]})", R"({"weight_map":{"x":1}})",
        R"({"weight_map":{"x":"../m/a.safetensors"}})", R"({"weight_map":{"x":"/etc/passwd"}})",
        R"({"weight_map":{"x":""}})", R"({"weight_map":{"x":".."}})",
        "{\"weight_map\":{\"x\":\"\xff\"}}"}) {
    INFO(text);
    index(text);
    CheckRefused(directory, StatusCode::kInvalidArgument, {index_path});
  }
  index(R"({"weight_map":{}})");
  CheckRefused(directory, StatusCode::kNotFound, {"model.embed_tokens.weight"});
}

TEST_CASE("ConvertToFloat: every bfloat16 and every half", "[unit][model]") {
  std::vector<uint16_t> bits(65536);
  std::iota(bits.begin(), bits.end(), 0);
  std::vector<float> values(bits.size());
  ConvertToFloat(DType::kF16, std::as_bytes(std::span(bits)), values);
  for (const uint16_t half : bits) {
    const int exponent = (half >> 10) & 31;
    const int mantissa = half & 1023;
    float want = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                               : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
    if (exponent == 31) want = mantissa == 0 ? HUGE_VALF : NAN;
    if (half >= 0x8000) want = -want;
    const float got = values[half];
    INFO(half);
    REQUIRE((std::isnan(want) ? std::isnan(got)
                              : got == want && std::signbit(got) == std::signbit(want)));
  }
  ConvertToFloat(DType::kBF16, std::as_bytes(std::span(bits)), values);
  for (const uint16_t half : bits) {
    uint32_t got = 0;
    std::memcpy(&got, &values[half], sizeof(got));
    REQUIRE(got == static_cast<uint32_t>(half) << 16);
  }
}

TEST_CASE("InitModelDirectory: the seed alone decides the bytes", "[unit][model]") {
  const TempDir dir;
  const auto make = [&](const std::string& name, uint64_t seed) {
    REQUIRE_OK(
        InitModelDirectory({.directory = dir.File(name), .config = TinyConfig(), .seed = seed}));
    return Read(dir.File(name + "/model.safetensors"));
  };
  const std::string first = make("a", 1);
  CHECK(make("deeper/b", 1) == first);
  CHECK(make("c", 2) != first);
  CHECK(make("a", 2) != first);  // Files in it are replaced.
  REQUIRE_OK(CheckModelDirectory(dir.File("a")).status());
}

TEST_CASE("InitModelDirectory: refuses what could not be loaded", "[unit][model]") {
  const TempDir dir;
  const auto refused = [&](const ModelConfig& config, const std::string& part) {
    const Status status = InitModelDirectory({.directory = dir.File("m"), .config = config});
    INFO(status.ToString());
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(Message(status).find(part) != std::string::npos);
    CHECK(!std::filesystem::exists(dir.path() / "m"));
  };
  refused({}, "'vocab_size' is 0");
  ModelConfig config = TinyConfig();
  config.head_dim = 0;
  config.num_heads = 3;
  refused(config, "'hidden_size' 8 is not a multiple of 'num_attention_heads' 3");
  config = TinyConfig();
  config.head_dim = 3;
  refused(config, "head dimension is 3");
  config = TinyConfig();
  config.eos_token_ids = {11};
  refused(config, "'eos_token_id'");
  config = TinyConfig();
  config.vocab_size = 1 << 24;
  config.hidden_size = 1 << 20;
  refused(config, "at most 17179869184");
  config.vocab_size = std::numeric_limits<int64_t>::max();
  refused(config, "'vocab_size'");
  config = TinyConfig();
  config.rope.theta = std::numeric_limits<double>::infinity();
  refused(config, "'rope_theta'");
  config.rope.theta = std::nan("");
  refused(config, "'rope_theta'");
}

}  // namespace
}  // namespace rollcall
