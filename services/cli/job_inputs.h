// The files that a job reads, looked at before anything is started.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "rollcall/v1/job.pb.h"
#include "services/base/status/status.h"
#include "services/cli/data_report.h"
#include "services/common/text/tokenizer.h"
#include "services/model/weights/model_files.h"

namespace rollcall {

struct ModelReport {
  ModelDirectoryInfo info;
  int32_t tokenizer_size = 0;  // largest token id + 1
  std::string tokenizer_kind;  // "BPE", as tokenizer.json names its model
  std::shared_ptr<const Tokenizer> tokenizer;
  // Null without a chat template, or with one that does not load; then why.
  std::shared_ptr<const ConversationRenderer> renderer;
  Status chat_template;
};

// A model directory loads: config, every tensor, tokenizer, and the tokenizer fits the model.
StatusOr<ModelReport> InspectModel(const std::string& directory);

struct JobInputs {
  ModelReport model;
  DataReport data;
  std::optional<DataReport> evaluation;
};

// How rows become tokens for this model.
ExampleEncoding EncodingOf(const ModelReport& model);

// The first input of the job that cannot be used, with the key that names it.
StatusOr<JobInputs> InspectJobInputs(const v1::JobSpec& spec);

}  // namespace rollcall
