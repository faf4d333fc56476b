// A model that clients can name: what turns their texts into tokens and back, and where its weights
// come from.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "rollout_worker/kv_cache/prefix_index.h"
#include "rollout_worker/serving/grammar_cache.h"
#include "services/base/status/status.h"
#include "services/common/template/chat_template.h"
#include "services/common/text/tokenizer.h"
#include "services/model/config/model_config.h"

namespace rollcall {

// Where the weights of a served model come from. Thread-safe.
class ServedPolicy {
 public:
  virtual ~ServedPolicy() = default;
  // Whose engine runs it: UsableModel::job_id.
  virtual const std::string& job_id() const = 0;
  // Calls `done` once, from any thread, also before it returns: with a model that the engine has,
  // or with kUnavailable, kDeadlineExceeded.
  virtual void Acquire(absl::Time deadline, std::function<void(StatusOr<ModelId>)> done) = 0;
  // The engine does not have this model any more.
  virtual void Dropped(ModelId id) = 0;
};

// Sampling settings of generation_config.json, for what a request leaves open.
struct GenerationDefaults {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int32_t> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
};

// Immutable, but for what `policy` and `grammars` learn.
struct ServedModel {
  std::string name;
  absl::Time created;
  ModelConfig config;
  std::shared_ptr<const Tokenizer> tokenizer;
  ChatTemplates chat_templates;       // empty: the model is not for chats
  std::string chat_template_problem;  // why there is none
  std::vector<int32_t> eos_token_ids;
  GenerationDefaults defaults;
  std::shared_ptr<ServedPolicy> policy;
  std::shared_ptr<GrammarCache> grammars;
};

// Reads tokenizer, chat templates and generation settings of a model directory; `policy` stays
// empty. A chat template that cannot be used is no error: the model serves completions without it.
// kInvalidArgument names file and key; kNotFound: there is no tokenizer.
StatusOr<ServedModel> ReadServedModel(const std::string& directory, const ModelConfig& config,
                                      const std::string& name, absl::Time now);

// The models that can be named now. Thread-safe.
class ModelCatalog {
 public:
  virtual ~ModelCatalog() = default;
  virtual std::vector<std::shared_ptr<const ServedModel>> List() = 0;
  // An empty name is the only model. kNotFound names what there is.
  virtual StatusOr<std::shared_ptr<const ServedModel>> Find(const std::string& name) = 0;
};

// Of models that never change.
std::unique_ptr<ModelCatalog> MakeFixedCatalog(
    std::vector<std::shared_ptr<const ServedModel>> models);

}  // namespace rollcall
