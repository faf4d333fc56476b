#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "services/common/config/job_file.h"
#include "services/coordinator/job/prepared_job.h"
#include "services/model/weights/init_model.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace rollcall::coordinator {
namespace {

using testing::TempDir;

constexpr char kJob[] = R"(run: {name: add, output_dir: runs}
model: {path: model}
data: {path: prompts.jsonl, max_prompt_tokens: 8}
rollout: {samples_per_prompt: 2, max_new_tokens: 4}
reward:
  scorers:
    - type: exact_match
algorithm: {preset: grpo}
train: {total_steps: 2, prompts_per_step: 2}
)";

constexpr char kPairJob[] = R"(run: {name: prefer, output_dir: runs}
model: {path: model}
data: {kind: pairs, path: prompts.jsonl, max_prompt_tokens: 8, max_completion_tokens: 8}
algorithm: {preset: dpo}
train: {total_steps: 2, prompts_per_step: 2}
)";

ModelConfig SmallModel() {
  ModelConfig config;
  config.vocab_size = 257;
  config.hidden_size = 8;
  config.intermediate_size = 16;
  config.num_layers = 1;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.max_positions = 16;
  config.eos_token_ids = {256};
  return config;
}

// A folder with everything that a job needs; tests break one thing each.
class World {
 public:
  World() {
    REQUIRE_OK(InitModelDirectory({.directory = dir_.File("model"), .config = SmallModel()}));
    dir_.Write("model/tokenizer.json", ByteTokenizerJson());
    Prompts({R"({"prompt": "1+1=", "answer": "2"})", R"({"prompt": "1+2=", "answer": "3"})",
             R"({"prompt": "2+2=", "answer": "4"})"});
  }

  void Prompts(const std::vector<std::string>& lines, const std::string& name = "prompts.jsonl") {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    dir_.Write(name, text);
  }
  std::string File(const std::string& name) const { return dir_.File(name); }
  const TempDir& dir() const { return dir_; }

  v1::JobSpec Spec(const std::vector<std::string>& overrides = {}) const {
    REQUIRE_OK_AND_ASSIGN(v1::JobSpec spec,
                          ParseJobFile(kJob, "job.yaml", dir_.path().string(), overrides));
    return spec;
  }
  StatusOr<std::shared_ptr<const PreparedJob>> Prepare(
      const std::vector<std::string>& overrides = {}) const {
    return PrepareJob(Spec(overrides));
  }
  // The message of the refusal.
  std::string Refused(const std::vector<std::string>& overrides = {}) const {
    const Status status = Prepare(overrides).status();
    INFO(status.ToString());
    const bool is_expected = status.code() == StatusCode::kInvalidArgument ||
                             status.code() == StatusCode::kNotFound ||
                             status.code() == StatusCode::kDataLoss;
    CHECK(is_expected);
    return Message(status);
  }

 private:
  TempDir dir_;
};

void CheckHas(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    INFO("expected: " << part << "\ngot: " << message);
    CHECK(message.find(part) != std::string::npos);
  }
}

TEST_CASE("PrepareJob: a good job comes out as tokens", "[unit][coordinator]") {
  const World world;
  REQUIRE_OK_AND_ASSIGN(const auto job, world.Prepare());
  CHECK(job->vocab_size == 257);
  CHECK(job->stop_token_ids == std::vector<int32_t>{256});
  REQUIRE(job->data.rows.size() == 3);
  CHECK(job->data.rows[0].prompt == std::vector<int32_t>{'1', '+', '1', '='});
  CHECK(job->data.rows[2].json == R"({"prompt": "2+2=", "answer": "4"})");
  CHECK(job->data.usable == std::vector<int64_t>{0, 1, 2});
  CHECK(job->data.hash.size() == 32);
  CHECK(job->evaluation.rows.empty());
  CHECK_FALSE(job->from_dataset());
}

TEST_CASE("PrepareJob: a KV budget needs a model whose layers see everything",
          "[unit][coordinator]") {
  const World world;
  const std::vector<std::string> budget = {"rollout.kv_budget.num_heavy=4",
                                           "rollout.kv_budget.num_recent=3",
                                           "algorithm.correction=token_truncate"};
  REQUIRE_OK(world.Prepare(budget).status());
  ModelConfig config = SmallModel();
  REQUIRE_OK(SetModelType("mistral", &config));
  REQUIRE_OK(SetSlidingWindow(4, &config));
  REQUIRE_OK(InitModelDirectory({.directory = world.File("sliding"), .config = config}));
  world.dir().Write("sliding/tokenizer.json", ByteTokenizerJson());
  std::vector<std::string> sliding = budget;
  sliding.push_back("model.path=" + world.File("sliding"));
  CheckHas(world.Refused(sliding), {"rollout.kv_budget: ", "layer 0", "sliding window of 4"});
}

TEST_CASE("PrepareJob: rows that are too long keep their number and are not used",
          "[unit][coordinator]") {
  World world;
  world.Prompts({R"({"prompt": "123456789", "answer": "x"})", R"({"prompt": "12345678"})",
                 R"({"prompt": "1"})"});
  REQUIRE_OK_AND_ASSIGN(const auto job, world.Prepare());
  CHECK(job->data.usable == std::vector<int64_t>{1, 2});
  CHECK(job->data.num_too_long == 1);
  CHECK(job->data.rows[0].prompt.empty());
  CheckHas(world.Refused({"train.prompts_per_step=3"}),
           {"train.prompts_per_step: 3 rows are needed in one step", world.File("prompts.jsonl"),
            "has 2"});
}

TEST_CASE("PrepareJob: data set rows end in the stop token", "[unit][coordinator]") {
  World world;
  world.Prompts({R"({"prompt": "a", "chosen": "b", "rejected": "cc"})",
                 R"({"prompt": "a", "chosen": "b", "rejected": "cccccccccccccccc"})",
                 R"({"prompt": "d", "chosen": "e", "rejected": "f"})"});
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec,
                        ParseJobFile(kPairJob, "job.yaml", world.dir().path().string()));
  REQUIRE_OK_AND_ASSIGN(const auto job, PrepareJob(spec));
  CHECK(job->from_dataset());
  CHECK(job->data.rows[0].completions ==
        std::vector<TokenRuns>{{{{'b', 256}, true}}, {{{'c', 'c', 256}, true}}});
  CHECK(job->data.usable == std::vector<int64_t>{0, 2});
}

TEST_CASE("PrepareJob: ranked completions make pairs", "[unit][coordinator]") {
  World world;
  world.Prompts({R"({"prompt": "a", "completions": ["x", "y", "z"], "scores": [1, 3, 2]})",
                 R"({"prompt": "b", "completions": ["x", "y"], "scores": [1, 1]})",
                 R"({"prompt": "c", "completions": ["x", "y", "z"], "ranks": [1, 2, 2]})"});
  const auto pairs = [&](const std::string& which) {
    REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec,
                          ParseJobFile(kPairJob, "job.yaml", world.dir().path().string(),
                                       {"data.ranked_pairs=" + which, "train.prompts_per_step=1",
                                        "resources.learner_ranks=1"}));
    REQUIRE_OK_AND_ASSIGN(const auto job, PrepareJob(spec));
    CHECK(job->data.num_without_preference == 1);
    std::vector<std::string> texts;
    for (const int64_t id : job->data.usable) {
      const PreparedRow& row = job->data.rows[static_cast<size_t>(id)];
      std::string text;
      for (const int32_t token : row.prompt) text += static_cast<char>(token);
      for (const TokenRuns& runs : row.completions) {
        text += static_cast<char>(runs.front().tokens.front());
      }
      texts.push_back(text);
    }
    return texts;
  };
  using Texts = std::vector<std::string>;
  CHECK(pairs("best_worst") == Texts{"ayx", "cxz"});
  CHECK(pairs("adjacent") == Texts{"ayz", "azx", "cxy"});
  CHECK(pairs("all") == Texts{"ayz", "ayx", "azx", "cxy", "cxz"});
}

TEST_CASE("PrepareJob: pairs of equal sides are dropped", "[unit][coordinator]") {
  World world;
  world.Prompts({R"({"prompt": "a", "chosen": "b", "rejected": "b"})",
                 R"({"prompt": "a", "chosen": "b", "rejected": "c"})",
                 R"({"prompt": "d", "chosen": "e", "rejected": "f"})"});
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec,
                        ParseJobFile(kPairJob, "job.yaml", world.dir().path().string()));
  REQUIRE_OK_AND_ASSIGN(const auto job, PrepareJob(spec));
  CHECK(job->data.num_without_preference == 1);
  CHECK(job->data.usable == std::vector<int64_t>{1, 2});
}

TEST_CASE("PrepareJob: columns by other names, several files, a limit", "[unit][coordinator]") {
  World world;
  world.Prompts({R"({"q": {"text": "a="}})", R"({"q": {"text": "b="}})"}, "one.jsonl");
  world.Prompts({R"({"q": {"text": "c="}})", R"({"q": {"text": "d="}})"}, "two.jsonl");
  const std::vector<std::string> overrides = {"data.path=[one.jsonl, two.jsonl]",
                                              "data.columns.prompt=q.text", "data.max_rows=3"};
  REQUIRE_OK_AND_ASSIGN(const auto job, world.Prepare(overrides));
  REQUIRE(job->data.rows.size() == 3);
  CHECK(job->data.rows[2].prompt == std::vector<int32_t>{'c', '='});
  CheckHas(world.Refused({"data.path=[one.jsonl, two.jsonl]"}),
           {world.File("one.jsonl") + ":1: field 'prompt' is missing; the row has q"});
  CheckHas(world.Refused({"data.path=none-*.jsonl"}), {"data.path: ", "no file matches"});
}

TEST_CASE("PrepareJob: a changed row changes the hash", "[unit][coordinator]") {
  World world;
  REQUIRE_OK_AND_ASSIGN(const auto before, world.Prepare());
  REQUIRE_OK_AND_ASSIGN(const auto same, world.Prepare());
  CHECK(same->data.hash == before->data.hash);
  world.Prompts({R"({"prompt": "1+1=", "answer": "2"})", R"({"prompt": "1+2=", "answer": "4"})",
                 R"({"prompt": "2+2=", "answer": "4"})"});
  REQUIRE_OK_AND_ASSIGN(const auto after, world.Prepare());
  CHECK(after->data.hash != before->data.hash);
}

TEST_CASE("PrepareJob: a broken model is refused with its file", "[unit][coordinator]") {
  const World world;
  const std::string weights = world.File("model/model.safetensors");
  const std::string config = world.File("model/config.json");
  SECTION("missing") {
    CheckHas(world.Refused({"model.path=absent"}), {world.File("absent/config.json")});
  }
  SECTION("weights missing") {
    std::filesystem::remove(weights);
    CheckHas(world.Refused(), {weights});
  }
  SECTION("weights truncated") {
    std::filesystem::resize_file(weights, std::filesystem::file_size(weights) - 10);
    CheckHas(world.Refused(), {weights});
  }
  SECTION("weights cut inside their header") {
    std::filesystem::resize_file(weights, 20);
    CheckHas(world.Refused(), {weights});
  }
  SECTION("weights empty") {
    world.dir().Write("model/model.safetensors", "");
    CheckHas(world.Refused(), {weights});
  }
  SECTION("weights of another size") {
    ModelConfig other = SmallModel();
    other.hidden_size = 16;
    other.head_dim = 8;
    world.dir().Write("model/config.json", ModelConfigToJson(other));
    CheckHas(world.Refused(), {weights, "has shape", "config.json asks for"});
  }
  SECTION("config that is no JSON") {
    world.dir().Write("model/config.json", "{");
    CheckHas(world.Refused(), {config});
  }
  SECTION("config of another architecture") {
    world.dir().Write("model/config.json", R"({"architectures": ["Unknown"], "model_type": "x"})");
    CheckHas(world.Refused(), {config, "Unknown"});
  }
}

TEST_CASE("PrepareJob: a tokenizer that does not fit is refused", "[unit][coordinator]") {
  const World world;
  const std::string tokenizer = world.File("model/tokenizer.json");
  SECTION("missing") {
    std::filesystem::remove(tokenizer);
    CheckHas(world.Refused(), {tokenizer});
  }
  SECTION("no tokenizer") {
    world.dir().Write("model/tokenizer.json", "[]");
    CheckHas(world.Refused(), {tokenizer});
  }
  SECTION("more ids than the model") {
    ModelConfig small = SmallModel();
    small.vocab_size = 200;
    small.eos_token_ids = {199};
    REQUIRE_OK(InitModelDirectory({.directory = world.File("model"), .config = small}));
    CheckHas(world.Refused(), {world.File("model"), "ids up to 256", "200 ids only"});
  }
}

TEST_CASE("PrepareJob: a broken row is refused with file, line and field", "[unit][coordinator]") {
  World world;
  const std::string prompts = world.File("prompts.jsonl");
  const std::string good = R"({"prompt": "1+1="})";
  SECTION("no file") {
    std::filesystem::remove(prompts);
    CheckHas(world.Refused(), {prompts});
  }
  SECTION("no rows") {
    world.Prompts({"", " "});
    CheckHas(world.Refused(), {prompts, "no rows"});
  }
  SECTION("not JSON") {
    world.Prompts({good, "", good, "{\"prompt\": "});
    CheckHas(world.Refused(), {prompts + ":4: not JSON at byte"});
  }
  SECTION("not an object") {
    world.Prompts({good, "[1]"});
    CheckHas(world.Refused(), {prompts + ":2: expected a JSON object, got array"});
  }
  SECTION("field missing") {
    world.Prompts({good, R"({"question": "?"})"});
    CheckHas(world.Refused(), {prompts + ":2: field 'prompt' is missing"});
  }
  SECTION("field of another type") {
    world.Prompts({good, R"({"prompt": {"a": 1}})"});
    CheckHas(world.Refused(),
             {prompts + ":2: field 'prompt' is neither a text nor a conversation but object"});
  }
  SECTION("not UTF-8") {
    world.Prompts({good, "{\"prompt\": \"\xFF\"}"});
    CheckHas(world.Refused(), {prompts + ":2: not UTF-8"});
  }
  SECTION("empty prompt, after a blank line") {
    world.Prompts({good, "", R"({"prompt": ""})"});
    CheckHas(world.Refused(), {prompts + ":3: the prompt is empty"});
  }
  SECTION("held-out rows") {
    world.Prompts({good, "x"}, "held_out.jsonl");
    CheckHas(world.Refused({"evaluate.path=" + world.File("held_out.jsonl")}),
             {world.File("held_out.jsonl") + ":2: not JSON"});
  }
  SECTION("held-out rows that are all too long") {
    world.Prompts({R"({"prompt": "123456789"})"}, "held_out.jsonl");
    CheckHas(world.Refused({"evaluate.path=" + world.File("held_out.jsonl")}),
             {"evaluate.path: every prompt of " + world.File("held_out.jsonl") + " is too long"});
  }
}

TEST_CASE("PrepareJob: what a client should have checked is checked again", "[unit][coordinator]") {
  const World world;
  const auto refused = [](const v1::JobSpec& spec) { return Message(PrepareJob(spec).status()); };
  v1::JobSpec spec = world.Spec();
  spec.mutable_run()->set_name("../../etc");
  CheckHas(refused(spec), {"run.name: '../../etc' is no job name"});
  for (const std::string& name : {std::string(129, 'n'), std::string(".hidden"), std::string("a b"),
                                  std::string("a/b"), std::string("a\nb")}) {
    spec.mutable_run()->set_name(name);
    CheckHas(refused(spec), {"run.name"});
  }
  spec = world.Spec();
  spec.mutable_reward()->clear_scorers();
  CheckHas(refused(spec), {"reward.scorers"});
  spec = world.Spec();
  spec.mutable_train()->set_total_steps(-1);
  CheckHas(refused(spec), {"train.total_steps"});
  spec = world.Spec();
  spec.mutable_rollout()->set_max_new_tokens(16);
  CheckHas(refused(spec), {"rollout.max_new_tokens: 16 leaves no room", "16 positions"});
  CheckHas(refused(v1::JobSpec()), {"run.name"});
}

TEST_CASE("MakeRunDirectory: holds the job as given and as resolved", "[unit][coordinator]") {
  const World world;
  const v1::JobSpec spec = world.Spec();
  REQUIRE_OK_AND_ASSIGN(const std::string run_dir, MakeRunDirectory(spec, 3, kJob));
  CHECK(run_dir == world.File("runs/add-j000003"));
  std::ifstream job(run_dir + "/job.yaml");
  CHECK(std::string(std::istreambuf_iterator<char>(job), {}) == kJob);
  CHECK(std::filesystem::file_size(run_dir + "/resolved.yaml") > 100);
}

TEST_CASE("MakeRunDirectory: never takes a directory that is there", "[unit][coordinator]") {
  const World world;
  const v1::JobSpec spec = world.Spec();
  // Another cluster, or this one before its state was removed, left a run behind.
  world.dir().Write("runs/add-j000001/metrics.jsonl", "{}\n");
  REQUIRE_OK_AND_ASSIGN(const std::string second, MakeRunDirectory(spec, 1, kJob));
  CHECK(second == world.File("runs/add-j000001.2"));
  REQUIRE_OK_AND_ASSIGN(const std::string third, MakeRunDirectory(spec, 1, kJob));
  CHECK(third == world.File("runs/add-j000001.3"));
  CHECK_FALSE(std::filesystem::exists(world.File("runs/add-j000001/job.yaml")));
}

TEST_CASE("MakeRunDirectory: a directory that cannot be written is named", "[unit][coordinator]") {
  const World world;
  v1::JobSpec spec = world.Spec();
  const std::string file = world.dir().Write("file", "x");
  spec.mutable_run()->set_output_dir(file);
  Status status = MakeRunDirectory(spec, 1, kJob).status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CheckHas(Message(status),
           {"run.output_dir: the run directory cannot be written", file, "Not a directory"});
  spec.mutable_run()->set_output_dir("/proc/rollcall-test");
  status = MakeRunDirectory(spec, 1, kJob).status();
  CheckHas(Message(status), {"run.output_dir", "/proc/rollcall-test"});
  spec.mutable_run()->set_output_dir("runs");
  status = MakeRunDirectory(spec, 1, kJob).status();
  CheckHas(Message(status), {"run.output_dir: 'runs' must be an absolute path here"});
}

}  // namespace
}  // namespace rollcall::coordinator
