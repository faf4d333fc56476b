// Properties over the whole schema: what holds for one key must hold for all.
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <google/protobuf/util/message_differencer.h>

#include "services/base/runtime/random.h"
#include "services/common/config/job_file.h"
#include "services/common/config/method_parts.h"
#include "services/common/config/spec_fields.h"
#include "tests/support/catch.h"
#include "tests/unit/common/config/sample_jobs.h"

namespace rollcall {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::util::MessageDifferencer;

// Calls fn(path, field) for every setting; list items are addressed as item 0.
void ForEachSetting(const Descriptor& type, const std::string& path,
                    const std::function<void(const std::string&, const FieldDescriptor&)>& fn) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string field_path = path.empty() ? field.name() : path + "." + field.name();
    if (field.is_map()) continue;
    if (IsSection(field)) {
      ForEachSetting(*field.message_type(), field_path + (field.is_repeated() ? ".0" : ""), fn);
    } else {
      fn(field_path, field);
    }
  }
}

const std::string kJob = std::string(testing::kGrpoJob) +
                         "evaluate:\n  path: held_out.jsonl\n  scorers: [{type: exact_match}]\n";

// Another legal value than the default.
std::string OtherValue(const std::string& path, const FieldDescriptor& field) {
  const v1::FieldRules& rules = RulesOf(field);
  if (path == "algorithm.preset") return "grpo";
  if (path == "algorithm.advantage") return "leave_one_out";
  if (path == "algorithm.loss") return "reinforce";
  if (path == "algorithm.aggregation") return "token_mean";
  if (path == "algorithm.pair_builder") return "none";
  if (path == "algorithm.correction") return "token_mask";
  if (path == "algorithm.kl.estimator") return "k2";
  if (path == "data.kind") return "prompts";
  if (path == "train.minibatches_per_epoch" || path == "optimizer.warmup_steps") return "4";
  if (path == "rollout.min_new_tokens") return "4";
  if (path == "rollout.grammar.json_schema") return "true";
  if (path == "train.critic_warmup_steps") return "0";
  if (path == "sync.max_staleness") return "2";
  if (path.find("scorers.0.type") != std::string::npos) return "numeric";
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return rules.default_value() == "true" ? "false" : "true";
    case FieldDescriptor::CPPTYPE_STRING:
      return "word";
    case FieldDescriptor::CPPTYPE_ENUM: {
      std::string name = field.enum_type()->value(field.enum_type()->value_count() - 1)->name();
      for (char& c : name) c = static_cast<char>(std::tolower(c));
      return name;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return "1m30s";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "0.25";
    default:
      return rules.has_max() && rules.max() < 16384 ? "7" : "5000";
  }
}

TEST_CASE("JobSpec: every documented key is read, changes the spec and is written back",
          "[unit][config]") {
  const StatusOr<v1::JobSpec> base = ParseJobFile(kJob, "job.yaml", "/jobs");
  REQUIRE_OK(base.status());
  int count = 0;
  ForEachSetting(
      *v1::JobSpec::descriptor(), "", [&](const std::string& path, const FieldDescriptor& field) {
        const std::string value = OtherValue(path, field);
        INFO(path << "=" << value);
        std::vector<std::string> overrides = {path + "=" + value};
        if (path.find("rollout.kv_budget.") == 0) {
          // Goes with its other half, and with a correction.
          const bool is_heavy = path == "rollout.kv_budget.num_heavy";
          overrides.push_back("rollout.kv_budget.num_" +
                              std::string(is_heavy ? "recent" : "heavy") + "=3");
          overrides.push_back("algorithm.correction=token_mask");
        }
        REQUIRE_OK_AND_ASSIGN(const v1::JobSpec spec,
                              ParseJobFile(kJob, "job.yaml", "/jobs", overrides));
        REQUIRE_OK_AND_ASSIGN(const v1::JobSpec again,
                              ParseJobFile(JobSpecToYaml(spec), "again.yaml", "/elsewhere"));
        CHECK(MessageDifferencer::Equals(spec, again));
        const bool is_default = path == "algorithm.preset" || path == "algorithm.pair_builder" ||
                                path == "data.kind" || path == "train.critic_warmup_steps";
        CHECK(MessageDifferencer::Equals(spec, *base) == is_default);
        ++count;
      });
  CHECK(count > 70);
}

TEST_CASE("JobSpec: every default in the schema is legal and every key has help",
          "[unit][config]") {
  ForEachSetting(*v1::JobSpec::descriptor(), "",
                 [](const std::string& path, const FieldDescriptor& field) {
                   INFO(path);
                   const v1::FieldRules& rules = RulesOf(field);
                   if (rules.default_value().empty()) return;
                   std::unique_ptr<google::protobuf::Message> message(
                       google::protobuf::MessageFactory::generated_factory()
                           ->GetPrototype(field.containing_type())
                           ->New());
                   REQUIRE_OK(SetSetting(rules.default_value(), field, message.get()));
                   REQUIRE_OK(CheckSettingRange(*message, field));
                   CHECK_FALSE(rules.help().empty());
                 });
}

TEST_CASE("JobSchemaText: names every key and every part", "[unit][config]") {
  const std::string text = JobSchemaText();
  ForEachSetting(*v1::JobSpec::descriptor(), "",
                 [&](const std::string& path, const FieldDescriptor& field) {
                   INFO(path);
                   CHECK(text.find(" " + field.name() + ":") != std::string::npos);
                 });
  for (const auto parts :
       {Advantages(), Losses(), Aggregations(), PairBuilders(), Corrections(), KlEstimators()}) {
    for (const MethodPart& part : parts) CHECK(text.find(part.name) != std::string::npos);
  }
  CHECK(text.find("  temperature: 1.0                           # number, 0 to 100. Sampling "
                  "temperature; 0 is greedy.\n") != std::string::npos);
}

TEST_CASE("Recipes: every job file in deploy/recipes is valid", "[unit][config]") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("deploy/recipes")) {
    if (entry.path().extension() != ".yaml") continue;
    INFO(entry.path());
    REQUIRE_OK(LoadJobFile(entry.path().string()).status());
    ++count;
  }
  CHECK(count > 0);
}

// Mutations of a valid file: bytes, lines and words taken out, doubled, swapped or replaced by
// things that YAML gives a meaning to.
std::string Mutate(std::string text, CounterRandom& random) {
  static constexpr const char* kTokens[] = {
      ":",  "- ",    "[",  "]",    "{",     "}",     "&a ",  "*a",        "!!int ", "|",
      ">",  "\"",    "'",  "#",    "---\n", "...\n", "? ",   "~",         "\t",     "\n",
      "  ", "1e999", "-1", "<<: ", "\xff",  "\xe2",  "null", "%YAML 9\n", "@",      ","};
  const int edits = 1 + static_cast<int>(random.Next() % 4);
  for (int i = 0; i < edits && !text.empty(); ++i) {
    const size_t at = random.Next() % text.size();
    const size_t length = 1 + random.Next() % 12;
    switch (random.Next() % 4) {
      case 0:
        text.erase(at, length);
        break;
      case 1:
        text.insert(at, text.substr(random.Next() % text.size(), length));
        break;
      case 2:
        text.insert(at, kTokens[random.Next() % std::size(kTokens)]);
        break;
      default:
        text[at] = static_cast<char>(random.Next() % 256);
    }
  }
  return text;
}

TEST_CASE("ParseJobFile: mutated files give a spec or a message, never anything else",
          "[unit][config]") {
  CounterRandom random(20261124);
  int parsed = 0;
  constexpr int kRounds = 3000;
  for (int round = 0; round < kRounds; ++round) {
    const std::string text = Mutate(kJob, random);
    INFO("round " << round << "\n" << text);
    const StatusOr<v1::JobSpec> spec = ParseJobFile(text, "job.yaml", "/jobs");
    if (spec.ok()) {
      ++parsed;
      const StatusOr<v1::JobSpec> again = ParseJobFile(JobSpecToYaml(*spec), "again.yaml", "/jobs");
      REQUIRE_OK(again.status());
      REQUIRE(MessageDifferencer::Equals(*spec, *again));
    } else {
      REQUIRE(spec.status().code() == StatusCode::kInvalidArgument);
      REQUIRE(Message(spec.status()).find("job.yaml") == 0);
    }
  }
  CHECK(parsed > 0);
  CHECK(parsed < kRounds);
}

}  // namespace
}  // namespace rollcall
