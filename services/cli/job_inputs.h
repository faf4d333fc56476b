// The files that a job reads, looked at before anything is started.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rollcall/v1/job.pb.h"
#include "services/base/status/status.h"
#include "services/model/weights/model_files.h"

namespace rollcall {

struct ModelReport {
  ModelDirectoryInfo info;
  int32_t tokenizer_size = 0;  // largest token id + 1
};

// A model directory loads: config, every tensor, tokenizer, and the tokenizer fits the model.
StatusOr<ModelReport> InspectModel(const std::string& directory);

struct DataReport {
  int64_t num_rows = 0;
  uint64_t size_bytes = 0;
  // Fields of the rows with how many rows have them.
  std::map<std::string, int64_t> fields;
  // "prompts", "pairs": what the default field names make of it; several are possible.
  std::vector<std::string> kinds;
};

// A JSONL file reads; the rows have `required_fields`.
StatusOr<DataReport> InspectData(const std::string& path,
                                 const std::vector<std::string>& required_fields);

// Row fields that the job reads: of the training data and of the evaluation.
std::vector<std::string> TrainingFields(const v1::DataSpec& data);
std::vector<std::string> EvaluationFields(const v1::DataSpec& data);

struct JobInputs {
  ModelReport model;
  DataReport data;
  std::optional<DataReport> evaluation;
};

// The first input of the job that cannot be used, with the key that names it.
StatusOr<JobInputs> InspectJobInputs(const v1::JobSpec& spec);

}  // namespace rollcall
