#include "services/common/config/spec_checks.h"

#include <algorithm>
#include <set>
#include <string>

#include <fmt/format.h>

#include "services/common/config/method_parts.h"
#include "services/common/config/preset.h"
#include "services/common/config/spec_fields.h"
#include "services/common/sampling/sampling_codec.h"
#include "services/common/scoring/scorer_catalog.h"

namespace rollcall {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using ProtoMessage = google::protobuf::Message;
using google::protobuf::Reflection;
using v1::DataSpec;
using v1::KlSpec;

using Problems = std::vector<SpecProblem>;

std::string Join(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

void FillDefaults(ProtoMessage* message) {
  const Descriptor& type = *message->GetDescriptor();
  const Reflection& reflection = *message->GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_map()) continue;
    if (IsSection(field)) {
      if (!field.is_repeated()) {
        FillDefaults(reflection.MutableMessage(message, &field));
        continue;
      }
      for (int k = 0; k < reflection.FieldSize(*message, &field); ++k) {
        FillDefaults(reflection.MutableRepeatedMessage(message, &field, k));
      }
      continue;
    }
    if (field.is_repeated()) continue;
    const v1::FieldRules& rules = RulesOf(field);
    if (rules.default_value().empty() || reflection.HasField(*message, &field)) continue;
    const Status status = SetSetting(rules.default_value(), field, message);
    ROLLCALL_CHECK(status.ok(), "a default_value in job.proto does not parse");
  }
}

// A list of texts.
void CheckTexts(const ProtoMessage& message, const FieldDescriptor& field, const std::string& path,
                Problems* problems) {
  constexpr int kMaxTexts = 1024;
  const Reflection& reflection = *message.GetReflection();
  const int size = reflection.FieldSize(message, &field);
  if (size == 0 && RulesOf(field).required()) {
    problems->push_back({path, "required but not given (" + RulesOf(field).help() + ")", {path}});
  }
  if (size > kMaxTexts) {
    problems->push_back({path, fmt::format("{} items; at most {} are allowed", size, kMaxTexts)});
    return;
  }
  for (int k = 0; k < size; ++k) {
    const std::string& text = reflection.GetRepeatedString(message, &field, k);
    const std::string item = size == 1 ? path : fmt::format("{}[{}]", path, k);
    if (text.empty()) problems->push_back({item, "empty"});
    if (const Status status = CheckTextSize(text); !status.ok()) {
      problems->push_back({item, rollcall::Message(status)});
    }
  }
}

void CheckMessage(const ProtoMessage& message, const std::string& path, Problems* problems) {
  const Descriptor& type = *message.GetDescriptor();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string field_path = Join(path, field.name());
    if (field.is_map()) continue;
    if (IsSection(field)) {
      if (!field.is_repeated()) {
        CheckMessage(reflection.GetMessage(message, &field), field_path, problems);
        continue;
      }
      for (int k = 0; k < reflection.FieldSize(message, &field); ++k) {
        CheckMessage(reflection.GetRepeatedMessage(message, &field, k),
                     fmt::format("{}[{}]", field_path, k), problems);
      }
      continue;
    }
    if (field.is_repeated()) {
      CheckTexts(message, field, field_path, problems);
      continue;
    }
    const v1::FieldRules& rules = RulesOf(field);
    if (!reflection.HasField(message, &field)) {
      if (rules.required()) {
        problems->push_back(
            {field_path, "required but not given (" + rules.help() + ")", {field_path}});
      } else if (!rules.default_value().empty()) {
        problems->push_back({field_path, "missing; a resolved spec names every setting"});
      }
      continue;
    }
    if (const Status status = CheckSettingRange(message, field); !status.ok()) {
      problems->push_back({field_path, rollcall::Message(status)});
    }
  }
}

bool IsJobName(const std::string& name) {
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= 100 && name.front() != '.' && name.front() != '-' &&
         std::all_of(name.begin(), name.end(), is_allowed);
}

const MethodPart* CheckPart(const std::string& path, const std::string& name,
                            std::span<const MethodPart> parts, Problems* problems) {
  const MethodPart* part = FindPart(parts, name);
  if (part != nullptr) return part;
  if (name.empty()) {
    problems->push_back(
        {path,
         "not given; choose " + PartNames(parts) + ", or let algorithm.preset fill it",
         {path, "algorithm.preset"}});
  } else {
    problems->push_back({path, "unknown part '" + name + "'; choose " + PartNames(parts)});
  }
  return nullptr;
}

void CheckScorers(const google::protobuf::RepeatedPtrField<v1::ScorerSpec>& scorers,
                  const std::string& path, Problems* problems) {
  constexpr int kMaxScorers = 64;
  if (scorers.size() > kMaxScorers) {
    problems->push_back(
        {path, fmt::format("{} scorers; at most {} are allowed", scorers.size(), kMaxScorers)});
  }
  std::set<std::string> names;
  for (int i = 0; i < scorers.size(); ++i) {
    const v1::ScorerSpec& scorer = scorers[i];
    const std::string item = fmt::format("{}[{}]", path, i);
    if (!scorer.has_type()) continue;
    const Status checked =
        CheckScorer(scorer.type(), {scorer.options().begin(), scorer.options().end()});
    if (!checked.ok()) problems->push_back({item, Message(checked), {item + ".type"}});
    if (!IsJobName(scorer.name())) {
      problems->push_back(
          {item + ".name",
           "'" + scorer.name() + "' is no name; use letters, digits, '.', '_' and '-', at most 100",
           {item + ".type"}});
    } else if (!names.insert(scorer.name()).second) {
      problems->push_back({item + ".name", "'" + scorer.name() +
                                               "' names two scorers; give one of them another "
                                               "'name'"});
    }
  }
}

// The rows that the method trains on, where they follow from its parts.
void ResolveKind(v1::JobSpec* spec) {
  if (spec->data().has_kind()) return;
  const MethodPart* loss = FindPart(Losses(), spec->algorithm().loss());
  if (loss != nullptr && (loss->needs & kNeedsCompletions) != 0) {
    spec->mutable_data()->set_kind(DataSpec::COMPLETIONS);
  } else if (spec->algorithm().pair_builder() == "as_given") {
    spec->mutable_data()->set_kind(DataSpec::PAIRS);
  }
}

}  // namespace

unsigned MethodNeeds(const v1::AlgorithmSpec& algorithm) {
  unsigned needs = kNeedsNothing;
  const auto add = [&needs](std::span<const MethodPart> parts, const std::string& name) {
    if (const MethodPart* part = FindPart(parts, name); part != nullptr) needs |= part->needs;
  };
  add(Advantages(), algorithm.advantage());
  add(Losses(), algorithm.loss());
  add(Aggregations(), algorithm.aggregation());
  add(PairBuilders(), algorithm.pair_builder());
  add(Corrections(), algorithm.correction());
  if (algorithm.kl().placement() != KlSpec::NONE) add(KlEstimators(), algorithm.kl().estimator());
  return needs;
}

int64_t ItemsPerStep(const v1::JobSpec& spec) {
  const int64_t prompts = spec.train().prompts_per_step();
  const bool is_per_sample =
      spec.data().kind() == DataSpec::PROMPTS && (MethodNeeds(spec.algorithm()) & kNeedsPairs) == 0;
  return is_per_sample ? prompts * spec.rollout().samples_per_prompt() : prompts;
}

int64_t MaxSequenceTokens(const v1::JobSpec& spec) {
  return spec.data().max_prompt_tokens() + (spec.data().kind() == DataSpec::PROMPTS
                                                ? spec.rollout().max_new_tokens()
                                                : spec.data().max_completion_tokens());
}

Problems ResolveSpec(v1::JobSpec* spec) {
  Problems problems;
  if (!spec->run().has_deterministic() && spec->sync().max_staleness() > 0) {
    spec->mutable_run()->set_deterministic(false);
  }
  v1::AlgorithmSpec& algorithm = *spec->mutable_algorithm();
  if (algorithm.has_preset()) {
    const Preset* preset = FindPreset(algorithm.preset());
    if (preset != nullptr) {
      ApplyPreset(*preset, spec);
    } else {
      problems.push_back({"algorithm.preset",
                          "unknown preset '" + algorithm.preset() + "'; choose " + PresetNames()});
    }
  }
  ResolveKind(spec);
  if (!algorithm.has_whiten_advantages()) algorithm.set_whiten_advantages(false);
  if (!algorithm.kl().has_placement()) algorithm.mutable_kl()->set_placement(KlSpec::NONE);
  FillDefaults(spec);
  for (auto* scorers :
       {spec->mutable_reward()->mutable_scorers(), spec->mutable_evaluate()->mutable_scorers()}) {
    for (v1::ScorerSpec& scorer : *scorers) {
      if (!scorer.has_name() && scorer.has_type()) scorer.set_name(scorer.type());
    }
  }
  return problems;
}

Problems CheckSettings(const v1::JobSpec& spec) {
  Problems problems;
  CheckMessage(spec, "", &problems);
  if (spec.run().has_name() && !IsJobName(spec.run().name())) {
    problems.push_back({"run.name", "'" + spec.run().name() +
                                        "' is no job name; use letters, digits, '.', '_' and '-', "
                                        "not '.' or '-' first, at most 100"});
  }
  CheckScorers(spec.reward().scorers(), "reward.scorers", &problems);
  CheckScorers(spec.evaluate().scorers(), "evaluate.scorers", &problems);
  return problems;
}

Problems CheckMethod(const v1::JobSpec& spec) {
  Problems problems;
  const v1::AlgorithmSpec& algorithm = spec.algorithm();
  const auto fail = [&problems](const std::string& path, std::string message,
                                std::vector<std::string> depends_on) {
    depends_on.push_back("algorithm.preset");
    problems.push_back({path, std::move(message), std::move(depends_on)});
  };
  const MethodPart* advantage =
      CheckPart("algorithm.advantage", algorithm.advantage(), Advantages(), &problems);
  const MethodPart* loss = CheckPart("algorithm.loss", algorithm.loss(), Losses(), &problems);
  const MethodPart* aggregation =
      CheckPart("algorithm.aggregation", algorithm.aggregation(), Aggregations(), &problems);
  const MethodPart* pair_builder =
      CheckPart("algorithm.pair_builder", algorithm.pair_builder(), PairBuilders(), &problems);
  const MethodPart* correction =
      CheckPart("algorithm.correction", algorithm.correction(), Corrections(), &problems);

  const KlSpec& kl = algorithm.kl();
  if (kl.placement() == KlSpec::PLACEMENT_UNSPECIFIED) {
    fail("algorithm.kl.placement", "not given; choose none, loss or reward", {});
  } else if (kl.placement() != KlSpec::NONE) {
    const std::string where = SettingText(kl, *KlSpec::descriptor()->FindFieldByName("placement"));
    if (!kl.has_estimator()) {
      fail("algorithm.kl.estimator",
           "not given; kl.placement " + where + " needs one: " + PartNames(KlEstimators()),
           {"algorithm.kl.placement", "algorithm.kl.estimator"});
    } else {
      CheckPart("algorithm.kl.estimator", kl.estimator(), KlEstimators(), &problems);
    }
    if (!kl.has_coefficient()) {
      fail("algorithm.kl.coefficient", "not given; kl.placement " + where + " needs one, e.g. 0.04",
           {"algorithm.kl.placement", "algorithm.kl.coefficient"});
    }
  }
  // Whether unknown parts fit each other is nobody's guess.
  if (loss == nullptr || advantage == nullptr || aggregation == nullptr ||
      pair_builder == nullptr || correction == nullptr || !spec.data().has_kind()) {
    return problems;
  }

  const std::string loss_name(loss->name);
  const bool wants_completions = (loss->needs & kNeedsCompletions) != 0;
  const bool wants_pairs = (loss->needs & kNeedsPairs) != 0;
  const bool wants_reward = (loss->needs & kNeedsReward) != 0;
  const DataSpec::Kind kind = spec.data().kind();
  const std::vector<std::string> factors = {"algorithm.loss", "data.kind"};

  if (wants_completions && kind != DataSpec::COMPLETIONS) {
    fail("algorithm.loss",
         loss_name + " trains on given completions; it needs data.kind completions", factors);
  }
  if (wants_reward && kind != DataSpec::PROMPTS) {
    fail("algorithm.loss",
         loss_name + " trains on samples of the policy; it needs data.kind prompts", factors);
  }
  if (wants_reward && advantage->name == "none") {
    fail("algorithm.advantage",
         loss_name +
             " needs an advantage; choose one of group_norm, group_mean, leave_one_out, "
             "gae and return_to_go",
         {"algorithm.loss", "algorithm.advantage"});
  }
  if (!wants_reward && advantage->name != "none") {
    fail("algorithm.advantage",
         fmt::format("{} has no use for advantage {}; choose none", loss_name, advantage->name),
         {"algorithm.loss", "algorithm.advantage"});
  }
  if (wants_pairs) {
    if (pair_builder->name == "none") {
      fail("algorithm.pair_builder",
           loss_name +
               " trains on pairs; choose as_given (data.kind pairs) or best_worst "
               "(data.kind prompts)",
           {"algorithm.loss"});
    } else if (pair_builder->name == "as_given" && kind != DataSpec::PAIRS) {
      fail("algorithm.pair_builder",
           "as_given takes the pairs of the rows; it needs data.kind pairs", factors);
    } else if ((pair_builder->needs & kNeedsReward) != 0 && kind != DataSpec::PROMPTS) {
      fail("algorithm.pair_builder",
           fmt::format("{} pairs scored samples; it needs data.kind prompts", pair_builder->name),
           factors);
    }
  } else if (pair_builder->name != "none") {
    fail("algorithm.pair_builder",
         fmt::format("{} has no use for pairs from {}; choose none", loss_name, pair_builder->name),
         {"algorithm.loss"});
  }
  if (wants_pairs != ((aggregation->needs & kNeedsPairs) != 0)) {
    fail("algorithm.aggregation",
         fmt::format("{} does not fit loss {}; choose {}", aggregation->name, loss_name,
                     wants_pairs ? "item_mean" : "one of the token aggregations, e.g. token_mean"),
         {"algorithm.loss"});
  }
  if (!wants_reward && correction->name != "none") {
    fail("algorithm.correction",
         fmt::format("{} corrects behaviour log-probabilities, which loss {} does not use; choose "
                     "none",
                     correction->name, loss_name),
         {"algorithm.loss"});
  }
  if (!wants_reward && kl.placement() != KlSpec::NONE) {
    fail("algorithm.kl.placement",
         "a KL term needs loss reinforce or ppo_clip; choose none with " + loss_name,
         {"algorithm.loss"});
  }
  if (!wants_reward && algorithm.whiten_advantages()) {
    fail("algorithm.whiten_advantages", "loss " + loss_name + " has no advantages; choose false",
         {"algorithm.loss"});
  }

  const bool is_online = kind == DataSpec::PROMPTS;
  if (is_online && spec.reward().scorers().empty()) {
    fail("reward.scorers",
         "samples must be scored: name at least one scorer (\"- type: exact_match\")",
         {"reward.scorers", "data.kind"});
  }
  const int samples = spec.rollout().samples_per_prompt();
  for (const MethodPart* part : {advantage, pair_builder}) {
    if ((part->needs & kNeedsGroup) != 0 && samples < 2) {
      fail("rollout.samples_per_prompt",
           fmt::format("{} compares the samples of a prompt; {} is too few, give at least 2",
                       part->name, samples),
           {"algorithm.advantage", "algorithm.pair_builder", "rollout.samples_per_prompt"});
    }
  }
  if (is_online && spec.rollout().temperature() == 0) {
    fail("rollout.temperature",
         "0 is greedy: all samples of a prompt would be equal; give more than 0 (evaluate has its "
         "own temperature)",
         {"rollout.temperature", "data.kind"});
  }
  const auto params = ParamsFromSpec(spec.rollout());
  // The ranges of the other settings are their fields' rules.
  const Status law = params.ok()
                         ? CheckSamplingLaw({.logit_bias = LawFromParams(*params).logit_bias})
                         : params.status();
  if (!law.ok())
    fail("rollout", rollcall::Message(law),
         {"rollout.logit_bias", "rollout.grammar", "rollout.kv_budget"});
  if (law.ok() && params->has_grammar()) {
    const Status grammar = CompileGrammar(params->grammar()).status();
    if (!grammar.ok()) {
      fail("rollout.grammar", rollcall::Message(grammar),
           {"rollout.grammar.regex", "rollout.grammar.json_schema"});
    }
  }
  if (law.ok() && params->has_kv_budget() && wants_reward && correction->name == "none") {
    fail("algorithm.correction",
         "rollout.kv_budget forgets tokens that the learner sees, so samples are of another law; "
         "choose token_truncate or token_mask",
         {"rollout.kv_budget", "algorithm.correction", "algorithm.loss"});
  }
  if (spec.rollout().min_new_tokens() > spec.rollout().max_new_tokens()) {
    fail("rollout.min_new_tokens",
         fmt::format("{} is more than max_new_tokens, {}", spec.rollout().min_new_tokens(),
                     spec.rollout().max_new_tokens()),
         {"rollout.min_new_tokens", "rollout.max_new_tokens"});
  }
  if (spec.evaluate().has_path() && spec.evaluate().scorers().empty() &&
      spec.reward().scorers().empty()) {
    fail("evaluate.scorers", "an evaluation needs scorers, here or in reward.scorers",
         {"reward.scorers", "evaluate.scorers"});
  }
  if (spec.train().critic_warmup_steps() > 0 && (MethodNeeds(algorithm) & kNeedsCritic) == 0) {
    fail("train.critic_warmup_steps",
         fmt::format("advantage {} has no critic; give 0", advantage->name),
         {"algorithm.advantage", "train.critic_warmup_steps"});
  }
  return problems;
}

Problems CheckArithmetic(const v1::JobSpec& spec) {
  Problems problems;
  const v1::TrainSpec& train = spec.train();
  if (spec.run().deterministic() && spec.sync().max_staleness() > 0) {
    problems.push_back({"run.deterministic",
                        fmt::format("true needs sync.max_staleness 0, got {}: samples would depend "
                                    "on timing; give false or leave it out",
                                    spec.sync().max_staleness()),
                        {"sync.max_staleness"}});
  }
  const std::vector<std::string> batch = {
      "train.prompts_per_step",     "train.minibatches_per_epoch",
      "rollout.samples_per_prompt", "data.kind",
      "algorithm.preset",           "algorithm.loss",
      "algorithm.pair_builder",     "resources.learner_ranks"};
  const int64_t items = ItemsPerStep(spec);
  const int64_t minibatches = train.minibatches_per_epoch();
  const bool is_per_sample = items != train.prompts_per_step();
  const std::string items_text =
      is_per_sample ? fmt::format("{} prompts x {} samples = {}", train.prompts_per_step(),
                                  spec.rollout().samples_per_prompt(), items)
                    : fmt::format("{} prompts_per_step", items);
  if (minibatches > 0 && items % minibatches != 0) {
    problems.push_back(
        {"train.minibatches_per_epoch",
         fmt::format("{} cannot be cut into {} equal minibatches", items_text, minibatches),
         batch});
  } else if (minibatches > 0 && items / minibatches < spec.resources().learner_ranks()) {
    problems.push_back(
        {"resources.learner_ranks",
         fmt::format("a minibatch of {} ({} in {} minibatches) is too small for {} ranks; give at "
                     "most {} ranks or larger batches",
                     items / minibatches, items_text, minibatches, spec.resources().learner_ranks(),
                     items / minibatches),
         batch});
  }
  const int64_t longest = MaxSequenceTokens(spec);
  if (longest > train.max_tokens_per_microbatch()) {
    const std::string tail = spec.data().kind() == DataSpec::PROMPTS ? "rollout.max_new_tokens"
                                                                     : "data.max_completion_tokens";
    problems.push_back(
        {"train.max_tokens_per_microbatch",
         fmt::format("{} is less than the longest sequence: data.max_prompt_tokens "
                     "{} + {} {} = {}",
                     train.max_tokens_per_microbatch(), spec.data().max_prompt_tokens(), tail,
                     longest - spec.data().max_prompt_tokens(), longest),
         {"data.kind", "data.max_prompt_tokens", tail, "algorithm.preset"}});
  }
  if (train.has_total_steps() && spec.optimizer().warmup_steps() > train.total_steps()) {
    problems.push_back({"optimizer.warmup_steps",
                        fmt::format("{} is more than train.total_steps {}",
                                    spec.optimizer().warmup_steps(), train.total_steps()),
                        {"train.total_steps"}});
  }
  if (train.has_total_steps() && train.critic_warmup_steps() > 0 &&
      train.critic_warmup_steps() >= train.total_steps()) {
    problems.push_back({"train.critic_warmup_steps",
                        fmt::format("{} leaves no step for the policy: train.total_steps is {}",
                                    train.critic_warmup_steps(), train.total_steps()),
                        {"train.total_steps"}});
  }
  if (spec.evaluate().interval_steps() > 0 && !spec.evaluate().has_path()) {
    problems.push_back({"evaluate.interval_steps",
                        fmt::format("{} needs evaluate.path, a JSONL file of held-out prompts",
                                    spec.evaluate().interval_steps()),
                        {"evaluate.path"}});
  }
  return problems;
}

Problems CheckSpec(const v1::JobSpec& spec) {
  Problems problems = CheckSettings(spec);
  for (Problems more : {CheckMethod(spec), CheckArithmetic(spec)}) {
    problems.insert(problems.end(), std::make_move_iterator(more.begin()),
                    std::make_move_iterator(more.end()));
  }
  return problems;
}

}  // namespace rollcall
