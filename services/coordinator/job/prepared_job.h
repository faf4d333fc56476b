// A job as the coordinator works with it: its spec, and its rows as tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rollcall/v1/common.pb.h"
#include "rollcall/v1/job.pb.h"
#include "services/base/status/status.h"
#include "services/common/data/encode_example.h"
#include "services/common/text/tokenizer.h"
#include "services/coordinator/types.h"

namespace rollcall::coordinator {

struct PreparedRow {
  std::string json;  // of rows that are sampled for
  std::vector<int32_t> prompt;
  // Data sets only: the completion, or the chosen and the rejected one, each as it ends.
  std::vector<TokenRuns> completions;
};

// Rows are indexed by row id; rows that are dropped stay in place but are not usable.
struct PreparedRows {
  std::vector<PreparedRow> rows;
  std::vector<int64_t> usable;
  int64_t num_too_long = 0;
  int64_t num_without_preference = 0;  // pairs of equal sides, rankings of ties
  int64_t num_dropped() const { return num_too_long + num_without_preference; }
  std::string hash;  // hex XXH3-128 over the rows; empty without rows
};

// Immutable after preparation.
struct PreparedJob {
  std::shared_ptr<const v1::JobSpec> spec;
  std::shared_ptr<const Tokenizer> tokenizer;  // may be null in tests
  int64_t vocab_size = 0;
  std::vector<int32_t> stop_token_ids;
  PreparedRows data;
  PreparedRows evaluation;

  bool from_dataset() const { return spec->data().kind() != v1::DataSpec::PROMPTS; }
};

// Checks the spec, the model directory, the tokenizer and the data files, and reads them.
// Errors name file, line or key, and what would be right: kInvalidArgument, kNotFound for a file
// that is missing, kDataLoss for one that is cut off. Slow: reads whole files.
StatusOr<std::shared_ptr<const PreparedJob>> PrepareJob(const v1::JobSpec& spec);

// Makes a fresh run directory with job.yaml and resolved.yaml: spec.run.output_dir/<name>-<job id>,
// with ".2" and so on behind it when that is there already. Returns its path; kInvalidArgument
// names the directory that cannot be written.
StatusOr<std::string> MakeRunDirectory(const v1::JobSpec& spec, JobNumber job,
                                       const std::string& source_yaml);

}  // namespace rollcall::coordinator
