#include "services/common/config/job_file.h"

#include <string>
#include <vector>

#include <google/protobuf/util/message_differencer.h>

#include "services/common/config/preset.h"
#include "services/common/sampling/sampling_codec.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/common/config/sample_jobs.h"

namespace rollcall {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::kDpoJob;
using testing::kGrpoJob;
using testing::kSftJob;

StatusOr<v1::JobSpec> Parse(const std::string& yaml,
                            const std::vector<std::string>& overrides = {}) {
  return ParseJobFile(yaml, "job.yaml", "/jobs", overrides);
}

std::string ErrorOf(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  const StatusOr<v1::JobSpec> spec = Parse(yaml, overrides);
  if (spec.ok()) return "(parsed)";
  CHECK(spec.status().code() == StatusCode::kInvalidArgument);
  return Message(spec.status());
}

std::string Replaced(std::string text, const std::string& what, const std::string& with) {
  const size_t at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), with);
}

TEST_CASE("ParseJobFile: the sampler and the learner may compute in bfloat16, the sampler in int8",
          "[unit][config]") {
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec plain, Parse(kGrpoJob));
  CHECK(plain.rollout().quantization() == v1::RolloutSpec::NONE);
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec,
                        Parse(kGrpoJob, {"model.dtype=bfloat16", "rollout.quantization=int8"}));
  CHECK(spec.model().dtype() == v1::ModelSpec::BFLOAT16);
  CHECK(spec.rollout().quantization() == v1::RolloutSpec::INT8);
}

TEST_CASE("ParseJobFile: defaults, preset and absolute paths are filled in", "[unit][config]") {
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec, Parse(kGrpoJob));
  CHECK(spec.run().name() == "add");
  CHECK(spec.run().output_dir() == "/jobs/runs");
  CHECK(spec.run().deterministic());
  CHECK(spec.model().path() == "/jobs/model");
  CHECK(spec.model().dtype() == v1::ModelSpec::FLOAT32);
  REQUIRE(spec.data().path_size() == 1);
  CHECK(spec.data().path(0) == "/jobs/prompts.jsonl");
  CHECK(spec.data().kind() == v1::DataSpec::PROMPTS);
  CHECK(spec.rollout().temperature() == 0.9);
  CHECK(spec.rollout().samples_per_prompt() == 8);
  CHECK(spec.rollout().lease_timeout().seconds() == 30);
  CHECK(spec.reward().scorers(0).name() == "exact_match");
  CHECK(spec.reward().scorers(0).weight() == 1);
  CHECK(spec.algorithm().advantage() == "group_norm");
  CHECK(spec.algorithm().loss() == "ppo_clip");
  CHECK(spec.algorithm().aggregation() == "seq_mean_token_mean");
  CHECK(spec.algorithm().kl().placement() == v1::KlSpec::LOSS);
  CHECK(spec.algorithm().kl().estimator() == "k3");
  CHECK(spec.algorithm().kl().coefficient() == 0.04);
  CHECK(spec.optimizer().learning_rate() == 1e-6);
  CHECK(spec.resources().learner_ranks() == 2);
  REQUIRE_OK(ValidateJobSpec(spec));
}

TEST_CASE("ParseJobFile: data files are one text or a list", "[unit][config]") {
  const std::string job = Replaced(
      kGrpoJob, "prompts.jsonl",
      "[a.jsonl, data/*.parquet]\n  columns: {prompt: question, answer: x.y}\n  split: train"
      "\n  max_rows: 10");
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec, Parse(job));
  REQUIRE(spec.data().path_size() == 2);
  CHECK(spec.data().path(0) == "/jobs/a.jsonl");
  CHECK(spec.data().path(1) == "/jobs/data/*.parquet");
  CHECK(spec.data().columns().prompt() == "question");
  CHECK(spec.data().columns().answer() == "x.y");
  CHECK_FALSE(spec.data().columns().has_completion());
  CHECK(spec.data().split() == "train");
  CHECK(spec.data().max_rows() == 10);
  CHECK(spec.data().ranked_pairs() == v1::DataSpec::BEST_WORST);
  REQUIRE_OK(ValidateJobSpec(spec));
  // What is written reads back as the same.
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec again, Parse(JobSpecToYaml(spec)));
  CHECK(again.SerializeAsString() == spec.SerializeAsString());
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec one, Parse(job, {"data.path=b.jsonl"}));
  CHECK(one.data().path_size() == 1);
}

TEST_CASE("ParseJobFile: parts that take one kind of rows say which", "[unit][config]") {
  const std::string no_kind = Replaced(kDpoJob, "kind: pairs, ", "");
  REQUIRE_OK_AND_ASSIGN(
      const v1::JobSpec dpo,
      Parse(Replaced(no_kind, "preset: dpo",
                     "loss: dpo, advantage: none, aggregation: item_mean, pair_builder: as_given, "
                     "correction: none")));
  CHECK(dpo.data().kind() == v1::DataSpec::PAIRS);
  REQUIRE_OK_AND_ASSIGN(
      const v1::JobSpec sft,
      Parse(Replaced(kSftJob, "preset: sft",
                     "loss: nll, advantage: none, aggregation: token_mean, pair_builder: none, "
                     "correction: none")));
  CHECK(sft.data().kind() == v1::DataSpec::COMPLETIONS);
}

TEST_CASE("ParseJobFile: data files that are none", "[unit][config]") {
  const auto path = [](const std::string& value) {
    return ErrorOf(Replaced(kGrpoJob, "prompts.jsonl", value));
  };
  CHECK(path("{a: b}") == "job.yaml:6: data.path: expected text or a list of texts, got a mapping");
  CHECK(path("[[a]]") == "job.yaml:6: data.path[0]: expected text, got a list");
  CHECK(path("[]").find("data.path: required but not given") != std::string::npos);
  CHECK(path("[a, '']").find("data.path[1]: empty") != std::string::npos);
  CHECK(path("x\n  columns: {promt: q}").find("did you mean 'prompt'?") != std::string::npos);
  CHECK(path("x\n  prompt_field: q").find("it is called 'data.columns.prompt' here") !=
        std::string::npos);
}

TEST_CASE("ParseJobFile: methods say which rows they take instead of feedback", "[unit][config]") {
  CHECK(ErrorOf(kSftJob, {"data.kind=feedback"})
            .find("nll trains on given completions; it needs "
                  "data.kind completions") != std::string::npos);
  CHECK(ErrorOf(kDpoJob, {"data.kind=feedback"}).find("it needs data.kind pairs") !=
        std::string::npos);
  CHECK(ErrorOf(kGrpoJob, {"data.kind=feedback"}).find("it needs data.kind prompts") !=
        std::string::npos);
}

TEST_CASE("ParseJobFile: a preset fills only what the file leaves out", "[unit][config]") {
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec, Parse(kGrpoJob, {"algorithm.advantage=group_mean",
                                                                 "algorithm.kl.coefficient=0.5"}));
  CHECK(spec.algorithm().advantage() == "group_mean");
  CHECK(spec.algorithm().loss() == "ppo_clip");
  CHECK(spec.algorithm().kl().coefficient() == 0.5);
  CHECK(spec.algorithm().kl().estimator() == "k3");

  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec without_kl,
                        Parse(kGrpoJob, {"algorithm.kl.placement=none"}));
  CHECK_FALSE(without_kl.algorithm().kl().has_estimator());
  CHECK_FALSE(without_kl.algorithm().kl().has_coefficient());
}

TEST_CASE("ParseJobFile: every preset makes a valid job", "[unit][config]") {
  for (const Preset& preset : Presets()) {
    INFO(preset.name);
    const std::string name = "algorithm.preset=" + std::string(preset.name);
    StatusOr<v1::JobSpec> spec =
        preset.data_kind == v1::DataSpec::COMPLETIONS
            ? Parse(kSftJob, {name})
            : (preset.data_kind == v1::DataSpec::PAIRS ? Parse(kDpoJob, {name})
                                                       : Parse(kGrpoJob, {name}));
    REQUIRE_OK(spec.status());
    CHECK(spec->data().kind() == preset.data_kind);
    CHECK(spec->algorithm().loss() == preset.loss);
    REQUIRE_OK(ValidateJobSpec(*spec));
  }
}

TEST_CASE("ParseJobFile: staleness switches determinism off unless the file insists",
          "[unit][config]") {
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec, Parse(kGrpoJob, {"sync.max_staleness=2"}));
  CHECK_FALSE(spec.run().deterministic());
  CHECK(ErrorOf(kGrpoJob, {"sync.max_staleness=2", "run.deterministic=true"}) ==
        "--set run.deterministic: run.deterministic: true needs sync.max_staleness 0, got 2: "
        "samples would depend on timing; give false or leave it out");
}

TEST_CASE("ParseJobFile: bad files and what is said about them", "[unit][config]") {
  struct Case {
    const char* what;
    std::string yaml;
    const char* message;
  };
  const Case cases[] = {
      {"misspelt key", Replaced(kGrpoJob, "temperature", "temprature"),
       "job.yaml:8: rollout.temprature: unknown key; did you mean 'temperature'?"},
      {"key of another section",
       Replaced(kGrpoJob, "total_steps: 100", "total_steps: 100\n  top_p: 1"),
       "job.yaml:17: train.top_p: unknown key; 'top_p' belongs to 'rollout'"},
      {"key known from elsewhere", Replaced(kGrpoJob, "temperature: 0.9", "num_generations: 4"),
       "job.yaml:8: rollout.num_generations: unknown key; it is called "
       "'rollout.samples_per_prompt' here"},
      {"misspelt section", Replaced(kGrpoJob, "rollout:", "rolout:"),
       "job.yaml:7: rolout: unknown key; did you mean 'rollout'?"},
      {"section inside a section", Replaced(kGrpoJob, "  temperature: 0.9", "  reward: {}"),
       "job.yaml:8: rollout.reward: unknown key; 'reward' is a section of its own, at the left "
       "margin"},
      {"hopeless key", Replaced(kGrpoJob, "temperature: 0.9", "zzzzzz: 4"),
       "job.yaml:8: rollout.zzzzzz: unknown key; 'rollout' has samples_per_prompt, temperature, "
       "top_p, top_k, min_p, max_new_tokens, lease_timeout, max_attempts, quantization, "
       "repetition_penalty, presence_penalty, frequency_penalty, min_new_tokens, logit_bias, "
       "grammar and kv_budget"},
      {"text for a number", Replaced(kGrpoJob, "0.9", "warm"),
       "job.yaml:8: rollout.temperature: expected a number, got 'warm'"},
      {"not a number", Replaced(kGrpoJob, "0.9", ".nan"),
       "job.yaml:8: rollout.temperature: expected a number, got '.nan'"},
      {"list for a number", Replaced(kGrpoJob, "0.9", "[1, 2]"),
       "job.yaml:8: rollout.temperature: expected a number, got a list"},
      {"nothing for a number", Replaced(kGrpoJob, "0.9", ""),
       "job.yaml:8: rollout.temperature: expected a number, got nothing"},
      {"fraction for a count", Replaced(kGrpoJob, "32", "32.5"),
       "job.yaml:9: rollout.max_new_tokens: expected a whole number, got '32.5'"},
      {"count past its type", Replaced(kGrpoJob, "32", "99999999999"),
       "job.yaml:9: rollout.max_new_tokens: 99999999999 is out of range; allowed is -2147483648 to "
       "2147483647"},
      {"out of range", Replaced(kGrpoJob, "0.9", "200"),
       "job.yaml:8: rollout.temperature: 200 is out of range; allowed is 0 to 100"},
      {"below an exclusive bound", Replaced(kGrpoJob, "temperature: 0.9", "top_p: 0"),
       "job.yaml:8: rollout.top_p: 0 is out of range; allowed is more than 0 and at most 1"},
      {"negative seed", Replaced(kGrpoJob, "name: add", "name: add\n  seed: -1"),
       "job.yaml:3: run.seed: -1 is out of range; allowed is 0 to 18446744073709551615"},
      {"not a bool", Replaced(kGrpoJob, "name: add", "name: add\n  deterministic: yes"),
       "job.yaml:3: run.deterministic: expected true or false, got 'yes'"},
      {"unknown choice", Replaced(kGrpoJob, "path: prompts.jsonl", "path: p\n  kind: Prompts"),
       "job.yaml:7: data.kind: expected prompts, completions, pairs or feedback, got 'Prompts'"},
      {"duration without a unit", Replaced(kGrpoJob, "temperature: 0.9", "lease_timeout: 30"),
       "job.yaml:8: rollout.lease_timeout: expected a duration such as 250ms, 30s, 5m or 2h, got "
       "'30'"},
      {"duration of nothing", Replaced(kGrpoJob, "temperature: 0.9", "lease_timeout: 0s"),
       "job.yaml:8: rollout.lease_timeout: 0s is out of range; allowed is 1ms to 720h"},
      {"key given twice",
       Replaced(kGrpoJob, "temperature: 0.9", "temperature: 1\n  temperature: 2"),
       "job.yaml:9: rollout.temperature: given twice; the first is at job.yaml:8"},
      {"section given twice", std::string(kGrpoJob) + "run:\n  name: again\n",
       "job.yaml:17: run: given twice; the first is at job.yaml:1"},
      {"section that is a word", Replaced(kSftJob, "{name: warm-start}", "warm-start"),
       "job.yaml:1: run: expected a mapping of keys to values, got 'warm-start'"},
      {"mapping for a list", Replaced(kGrpoJob, "    - type: exact_match", "    type: exact_match"),
       "job.yaml:12: reward.scorers: expected a list (\"- type: ...\" for each item), got a "
       "mapping"},
      {"option that is a list",
       Replaced(kGrpoJob, "- type: exact_match", "- type: exact_match\n      options: {a: [1]}"),
       "job.yaml:13: reward.scorers[0].options.a: expected text or a number, got a list"},
      {"no name", Replaced(kGrpoJob, "  name: add\n", "  seed: 3\n"),
       "job.yaml:1: run.name: required but not given (Name shown in lists; letters, digits, '.', "
       "'_' and '-'.)"},
      {"scorer without a type", Replaced(kGrpoJob, "type: exact_match", "weight: 2"),
       "job.yaml:12: reward.scorers[0].type: required but not given (Registered scorer, e.g. "
       "exact_match.)"},
      {"bad name", Replaced(kGrpoJob, "name: add", "name: a/b"),
       "job.yaml:2: run.name: 'a/b' is no job name; use letters, digits, '.', '_' and '-', not '.' "
       "or '-' first, at most 100"},
      {"unknown preset", Replaced(kGrpoJob, "grpo", "gpro"),
       "job.yaml:14: algorithm.preset: unknown preset 'gpro'; choose sft, grpo, dr_grpo, rloo, "
       "reinforce_pp, ppo, dpo or online_dpo"},
      {"unknown part", Replaced(kGrpoJob, "preset: grpo", "preset: grpo\n  loss: ppo"),
       "job.yaml:15: algorithm.loss: unknown part 'ppo'; choose nll, reinforce, ppo_clip or dpo"},
      {"online without scorers", Replaced(kGrpoJob, "  scorers:\n    - type: exact_match\n", ""),
       "job.yaml:10: reward.scorers: samples must be scored: name at least one scorer (\"- type: "
       "exact_match\")"},
      {"a group of one", Replaced(kGrpoJob, "temperature: 0.9", "samples_per_prompt: 1"),
       "job.yaml:8: rollout.samples_per_prompt: group_norm compares the samples of a prompt; 1 is "
       "too few, give at least 2"},
      {"greedy rollouts", Replaced(kGrpoJob, "0.9", "0"),
       "job.yaml:8: rollout.temperature: 0 is greedy: all samples of a prompt would be equal; give "
       "more than 0 (evaluate has its own temperature)"},
      {"method and data disagree", Replaced(kDpoJob, "kind: pairs", "kind: prompts"),
       "job.yaml:4: algorithm.pair_builder: as_given takes the pairs of the rows; it needs "
       "data.kind pairs\n"
       "job.yaml: reward.scorers: samples must be scored: name at least one scorer (\"- type: "
       "exact_match\")"},
      {"uneven minibatches",
       Replaced(kGrpoJob, "total_steps: 100", "total_steps: 100\n  minibatches_per_epoch: 3"),
       "job.yaml:17: train.minibatches_per_epoch: 16 prompts x 8 samples = 128 cannot be cut into "
       "3 equal minibatches"},
      {"more ranks than rows", std::string(kSftJob) + "resources: {learner_ranks: 32}\n",
       "job.yaml:6: resources.learner_ranks: a minibatch of 16 (16 prompts_per_step in 1 "
       "minibatches) is too small for 32 ranks; give at most 16 ranks or larger batches"},
      {"budget below one sequence",
       Replaced(kGrpoJob, "total_steps: 100", "total_steps: 100\n  max_tokens_per_microbatch: 100"),
       "job.yaml:17: train.max_tokens_per_microbatch: 100 is less than the longest sequence: "
       "data.max_prompt_tokens 1024 + rollout.max_new_tokens 32 = 1056"},
      {"evaluation of nothing", std::string(kGrpoJob) + "evaluate: {interval_steps: 5}\n",
       "job.yaml:17: evaluate.interval_steps: 5 needs evaluate.path, a JSONL file of held-out "
       "prompts"},
      {"warm-up past the end", std::string(kGrpoJob) + "optimizer: {warmup_steps: 101}\n",
       "job.yaml:17: optimizer.warmup_steps: 101 is more than train.total_steps 100"},
      {"critic where there is none",
       Replaced(kGrpoJob, "total_steps: 100", "total_steps: 100\n  critic_warmup_steps: 2"),
       "job.yaml:17: train.critic_warmup_steps: advantage group_norm has no critic; give 0"},
      {"kl without its parts",
       Replaced(kSftJob, "preset: sft", "preset: dr_grpo, kl: {placement: loss}"),
       "job.yaml:4: algorithm.kl.estimator: not given; kl.placement loss needs one: k1, k2 or k3\n"
       "job.yaml:4: algorithm.kl.coefficient: not given; kl.placement loss needs one, e.g. 0.04\n"
       "job.yaml: reward.scorers: samples must be scored: name at least one scorer (\"- type: "
       "exact_match\")"},
      {"no factors at all", Replaced(kGrpoJob, "  preset: grpo", "  clip_low: 0.1"),
       "job.yaml:13: algorithm.advantage: not given; choose none, group_norm, group_mean, "
       "leave_one_out, gae or return_to_go, or let algorithm.preset fill it\n"
       "job.yaml:13: algorithm.loss: not given; choose nll, reinforce, ppo_clip or dpo, or let "
       "algorithm.preset fill it\n"
       "job.yaml:13: algorithm.aggregation: not given; choose token_mean, seq_mean_token_mean, "
       "seq_mean_token_sum, seq_mean_token_sum_const or item_mean, or let algorithm.preset fill "
       "it\n"
       "job.yaml:13: algorithm.pair_builder: not given; choose none, as_given or best_worst, or "
       "let algorithm.preset fill it\n"
       "job.yaml:13: algorithm.correction: not given; choose none, token_truncate or token_mask, "
       "or let algorithm.preset fill it"},
      {"several problems at once",
       Replaced(Replaced(Replaced(kGrpoJob, "temperature", "temprature"), "32", "many"), "100",
                "0"),
       "job.yaml:8: rollout.temprature: unknown key; did you mean 'temperature'?\n"
       "job.yaml:9: rollout.max_new_tokens: expected a whole number, got 'many'\n"
       "job.yaml:16: train.total_steps: 0 is out of range; allowed is 1 to 1000000000"},
      {"broken YAML", "run:\n  name: [a\nmodel: x\n",
       "job.yaml:3:6: not valid YAML: end of sequence flow not found"},
      {"tab", "run:\n\tname: a\n",
       "job.yaml:2:1: not valid YAML: the line is indented with a tab; use spaces"},
      {"two documents", std::string(kSftJob) + "---\nrun: {}\n",
       "job.yaml:7: a second document; a job file is one document"},
      {"tag", "run: !!python/object x\n",
       "job.yaml:1:6: tags such as 'tag:yaml.org,2002:python/object' are not used in job files"},
      {"not UTF-8", "run:\n  name: \xff\n", "job.yaml:2: not UTF-8 text; save the file as UTF-8"},
      {"a word", "hello",
       "job.yaml:1: a job file is a mapping of sections, got 'hello'; `rollcall schema` lists the "
       "sections"},
      {"merge key", Replaced(kGrpoJob, "temperature: 0.9", "<<: {a: 1}"),
       "job.yaml:8: rollout.<<: unknown key; merge keys are not read, repeat the settings"},
  };
  for (const Case& c : cases) {
    INFO(c.what);
    CHECK(ErrorOf(c.yaml) == c.message);
  }
}

TEST_CASE("ParseJobFile: overrides win over the file and are named in messages", "[unit][config]") {
  REQUIRE_OK_AND_ASSIGN(
      const v1::JobSpec spec,
      Parse(kGrpoJob, {"rollout.temperature=0.5", "reward.scorers.0.weight=2",
                       "reward.scorers.0.options.extract=a=b", "sync.transport=grpc",
                       "evaluate.scorers=[{type: numeric, options: {tolerance: 0.1}}]"}));
  CHECK(spec.rollout().temperature() == 0.5);
  CHECK(spec.reward().scorers(0).weight() == 2);
  CHECK(spec.reward().scorers(0).options().at("extract") == "a=b");
  CHECK(spec.sync().transport() == v1::SyncSpec::GRPC);
  CHECK(spec.evaluate().scorers(0).type() == "numeric");

  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec without,
                        Parse(kGrpoJob, {"rollout.temperature=", "evaluate.path="}));
  CHECK(without.rollout().temperature() == 1.0);
  CHECK_FALSE(without.evaluate().has_path());
  CHECK(ErrorOf(kGrpoJob, {"evaluate.pat="}) ==
        "--set evaluate.pat: evaluate.pat: unknown key; did you mean 'path'?");

  CHECK(ErrorOf(kGrpoJob, {"rollout.temprature=1"}) ==
        "--set rollout.temprature: rollout.temprature: unknown key; did you mean 'temperature'?");
  CHECK(ErrorOf(kGrpoJob, {"rollout.temperature"}) ==
        "--set 'rollout.temperature': expected section.key=value, e.g. rollout.temperature=0.7");
  CHECK(ErrorOf(kGrpoJob, {"reward.scorers.3.weight=1"}) ==
        "--set reward.scorers.3.weight: '3' is no item of a list of 1; items count from 0");
  CHECK(ErrorOf(kGrpoJob, {"run.name.x=1"}) ==
        "--set run.name.x: 'x' lies below a value, not a section");
  CHECK(ErrorOf(kGrpoJob, {"run..name=1"}) == "--set run..name: an empty part between dots");
  CHECK(ErrorOf(kGrpoJob, {"run.name=[a"}) ==
        "--set run.name:1:1: not valid YAML: end of sequence flow not found");
}

TEST_CASE("ParseJobFile: anchors serve, and cannot make a file large", "[unit][config]") {
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec,
                        Parse(Replaced(std::string(kGrpoJob), "    - type: exact_match",
                                       "    - &match {type: exact_match, weight: 3}") +
                              "evaluate:\n  scorers:\n    - *match\n"));
  CHECK(spec.evaluate().scorers(0).weight() == 3);

  std::string bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n";
  for (char name = 'b'; name < 'j'; ++name) {
    bomb += std::string(1, name) + ": &" + name + " [";
    for (int i = 0; i < 10; ++i) bomb += std::string(i > 0 ? ", *" : "*") + char(name - 1);
    bomb += "]\n";
  }
  CHECK(ErrorOf(bomb) == "job.yaml:5:8: more than 20000 values, aliases expanded");
  CHECK(ErrorOf("a: &a [*a]\n") == "job.yaml:1:8: an alias inside its own anchor");
  CHECK(ErrorOf("a: " + std::string(400, '[')) == "job.yaml:1:12: nested deeper than 16 levels");
  CHECK(ErrorOf(std::string(300 << 10, ' ')) == "job.yaml: 307200 bytes; at most 262144 are read");
}

TEST_CASE("ParseJobFile: nesting has a limit, and the limit is where it is said to be",
          "[unit][config]") {
  const auto nested = [](int depth) {
    return "zzzz: " + std::string(depth, '[') + "1" + std::string(depth, ']') + "\n";
  };
  CHECK(ErrorOf(nested(15)).find("nested deeper") == std::string::npos);
  CHECK(ErrorOf(nested(16)).find("nested deeper than 16 levels") != std::string::npos);
}

TEST_CASE("LoadJobFile: messages name the file, paths start at its folder", "[unit][config]") {
  const testing::TempDir dir;
  const std::string path = dir.Write("job.yaml", kGrpoJob);
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec, LoadJobFile(path));
  CHECK(spec.model().path() == dir.File("model"));

  const StatusOr<v1::JobSpec> missing = LoadJobFile(dir.File("nowhere.yaml"));
  CHECK(missing.status().code() == StatusCode::kNotFound);
  CHECK(Message(missing.status()).find(dir.File("nowhere.yaml")) != std::string::npos);
}

TEST_CASE("JobSpecToYaml: what it writes reads back as the same spec", "[unit][config]") {
  for (const std::string& yaml :
       {std::string(kGrpoJob), std::string(kSftJob), std::string(kDpoJob),
        Replaced(kGrpoJob, "type: exact_match",
                 "type: remote\n      name: mine\n      options: {address: 'localhost:80',"
                 " option.pattern: \"^ *[0-9]+\\\\t'\\\"$\", option.empty: '', option.yes: 'no',"
                 " option.number: '007', option.text: \"zwei\\nZeilen, ü\"}")}) {
    REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec, Parse(yaml));
    const std::string text = JobSpecToYaml(spec);
    INFO(text);
    REQUIRE_OK_AND_ASSIGN(const v1::JobSpec again, Parse(text));
    CHECK(MessageDifferencer::Equals(spec, again));
    CHECK(JobSpecToYaml(again) == text);
  }
}

TEST_CASE("Job file: penalties, bias and grammar of the sampling law", "[unit][config]") {
  const auto with = [](const std::string& settings) {
    return Parse(Replaced(kGrpoJob, "rollout:\n  temperature: 0.9\n  max_new_tokens: 32\n",
                          "rollout: {temperature: 0.9, max_new_tokens: 32, " + settings + "}\n"));
  };
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec,
                        with("repetition_penalty: 1.2, presence_penalty: -0.5, min_new_tokens: 2, "
                             "logit_bias: {'7': 1.5, '3': -100}, grammar: {regex: '[0-9]+'}"));
  CHECK(spec.rollout().repetition_penalty() == 1.2);
  CHECK(spec.rollout().frequency_penalty() == 0);
  CHECK(spec.rollout().logit_bias().at("7") == "1.5");
  CHECK(spec.rollout().grammar().regex() == "[0-9]+");
  const auto message = [&](const std::string& settings) {
    return Message(with(settings).status());
  };
  CHECK(message("repetition_penalty: 0").find("rollout.repetition_penalty") != std::string::npos);
  CHECK(message("logit_bias: {x: 1}").find("'x' is no token id") != std::string::npos);
  CHECK(message("logit_bias: {'1': x}").find("is no number") != std::string::npos);
  CHECK(message("logit_bias: {'1': 101}").find("logit_bias") != std::string::npos);
  CHECK(message("min_new_tokens: 100000").find("max_new_tokens") != std::string::npos);
  CHECK(message("grammar: {regex: '(a'}").find("without its )") != std::string::npos);
  CHECK(message("grammar: {json_schema: '{'}").find("no JSON") != std::string::npos);
  CHECK(message("grammar: {regex: a, json_schema: 'true'}").find("not both") != std::string::npos);
}

TEST_CASE("Job file: a KV budget is whole, and its samples are corrected", "[unit][config]") {
  const std::vector<std::string> good = {"rollout.kv_budget.num_heavy=64",
                                         "rollout.kv_budget.num_recent=32",
                                         "algorithm.correction=token_truncate"};
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec, Parse(kGrpoJob, good));
  REQUIRE_OK_AND_ASSIGN(const v1::SamplingParams params, ParamsFromSpec(spec.rollout()));
  CHECK(params.kv_budget().num_heavy() == 64);
  CHECK(params.kv_budget().num_recent() == 32);
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec plain, Parse(kGrpoJob));
  REQUIRE_OK_AND_ASSIGN(const v1::SamplingParams without, ParamsFromSpec(plain.rollout()));
  CHECK_FALSE(without.has_kv_budget());
  const auto has = [](const std::string& message, const std::string& part) {
    INFO(message);
    return message.find(part) != std::string::npos;
  };
  CHECK(has(ErrorOf(kGrpoJob, {"rollout.kv_budget.num_heavy=64"}),
            "kv_budget: give num_heavy and num_recent, both or neither"));
  CHECK(has(ErrorOf(kGrpoJob, {"rollout.kv_budget.num_heavy=64", "rollout.kv_budget.num_recent=0"}),
            "rollout.kv_budget.num_recent: 0 is out of range"));
  CHECK(has(ErrorOf(kGrpoJob, {good[0], good[1]}),
            "algorithm.correction: rollout.kv_budget forgets tokens"));
}

TEST_CASE("ValidateJobSpec: a spec over the wire is held to the same rules", "[unit][config]") {
  REQUIRE_OK_AND_ASSIGN(const v1::JobSpec good, Parse(kGrpoJob));
  v1::JobSpec spec = good;
  spec.mutable_rollout()->set_temperature(-1);
  spec.mutable_algorithm()->set_loss("magic");
  CHECK(Message(ValidateJobSpec(spec)) ==
        "rollout.temperature: -1 is out of range; allowed is 0 to 100\n"
        "algorithm.loss: unknown part 'magic'; choose nll, reinforce, ppo_clip or dpo");

  spec = good;
  spec.mutable_optimizer()->clear_beta1();
  CHECK(Message(ValidateJobSpec(spec)) ==
        "optimizer.beta1: missing; a resolved spec names every setting");
  spec = good;
  spec.mutable_data()->set_kind(static_cast<v1::DataSpec::Kind>(77));
  CHECK(Message(ValidateJobSpec(spec))
            .find("data.kind: 77 is no value of it; allowed is prompts, completions, pairs or "
                  "feedback") == 0);
  spec = good;
  spec.mutable_rollout()->mutable_lease_timeout()->set_seconds(-5);
  CHECK_FALSE(ValidateJobSpec(spec).ok());
  spec = good;
  spec.mutable_algorithm()->set_clip_low(std::numeric_limits<double>::quiet_NaN());
  CHECK_FALSE(ValidateJobSpec(spec).ok());
  CHECK_FALSE(ValidateJobSpec(v1::JobSpec()).ok());
}

}  // namespace
}  // namespace rollcall
