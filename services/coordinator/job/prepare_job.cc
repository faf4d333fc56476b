#include <algorithm>
#include <filesystem>
#include <span>
#include <system_error>
#include <utility>

#include "services/common/config/job_file.h"
#include "services/common/data/jsonl.h"
#include "services/common/storage/files.h"
#include "services/coordinator/job/prepared_job.h"
#include "services/model/weights/model_files.h"

namespace rollcall::coordinator {
namespace {

constexpr int kMaxRunDirectories = 1000;

struct RowLimits {
  int64_t max_prompt_tokens = 0;
  int64_t max_completion_tokens = 0;  // data sets only, the end token included
  int64_t max_positions = 0;
  int32_t end_token = -1;
};

std::string RowsHash(const std::vector<DataRow>& rows) {
  std::vector<uint64_t> hashes;
  hashes.reserve(rows.size());
  for (const DataRow& row : rows) {
    hashes.push_back(HashBytes64(std::as_bytes(std::span(row.json))));
  }
  return HexString(HashBytes128(std::as_bytes(std::span(hashes))));
}

StatusOr<std::vector<int32_t>> EncodeField(const Tokenizer& tokenizer, const DataRow& row,
                                           const std::string& field) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text, RowField(row.json, field));
  return tokenizer.Encode(text, Tokenizer::SpecialTokens::kAsText);
}

// Adds one row; false when it is too long.
StatusOr<bool> AddRow(const Tokenizer& tokenizer, const DataRow& row,
                      const std::string& prompt_field,
                      const std::vector<std::string>& completion_fields, const RowLimits& limits,
                      PreparedRow* out) {
  ROLLCALL_ASSIGN_OR_RETURN(out->prompt, EncodeField(tokenizer, row, prompt_field));
  if (out->prompt.empty()) return InvalidArgument("'" + prompt_field + "' is empty");
  const auto prompt_size = static_cast<int64_t>(out->prompt.size());
  bool fits = prompt_size <= limits.max_prompt_tokens;
  for (const std::string& field : completion_fields) {
    ROLLCALL_ASSIGN_OR_RETURN(std::vector<int32_t> completion, EncodeField(tokenizer, row, field));
    if (limits.end_token >= 0) completion.push_back(limits.end_token);
    if (completion.empty()) return InvalidArgument("'" + field + "' is empty");
    const auto size = static_cast<int64_t>(completion.size());
    fits =
        fits && size <= limits.max_completion_tokens && prompt_size + size <= limits.max_positions;
    out->completions.push_back(std::move(completion));
  }
  if (!fits) {
    // Never used: only its place in the numbering stays.
    *out = PreparedRow{};
    return false;
  }
  out->json = row.json;
  return true;
}

StatusOr<PreparedRows> ReadRows(const std::string& path, const Tokenizer& tokenizer,
                                const std::string& prompt_field,
                                const std::vector<std::string>& completion_fields,
                                const RowLimits& limits, int64_t max_rows) {
  std::vector<std::string> required = completion_fields;
  required.insert(required.begin(), prompt_field);
  ROLLCALL_ASSIGN_OR_RETURN(std::vector<DataRow> rows, ReadJsonl(path, required));
  PreparedRows prepared;
  prepared.hash = RowsHash(rows);
  if (max_rows > 0 && static_cast<int64_t>(rows.size()) > max_rows) {
    rows.resize(static_cast<size_t>(max_rows));
  }
  prepared.rows.resize(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const StatusOr<bool> fits =
        AddRow(tokenizer, rows[i], prompt_field, completion_fields, limits, &prepared.rows[i]);
    if (!fits.ok()) return Annotate(fits.status(), path + ":" + std::to_string(rows[i].line));
    if (*fits) {
      prepared.usable.push_back(static_cast<int64_t>(i));
    } else {
      ++prepared.num_dropped;
    }
  }
  return prepared;
}

std::vector<std::string> CompletionFields(const v1::DataSpec& data) {
  switch (data.kind()) {
    case v1::DataSpec::COMPLETIONS:
      return {data.completion_field()};
    case v1::DataSpec::PAIRS:
      return {data.chosen_field(), data.rejected_field()};
    default:
      return {};
  }
}

Status CheckScorers(const v1::JobSpec& spec) {
  if (spec.data().kind() == v1::DataSpec::PROMPTS && spec.reward().scorers().empty()) {
    return InvalidArgument("reward.scorers: a job that samples needs at least one scorer");
  }
  if (!spec.evaluate().path().empty() && spec.evaluate().scorers().empty() &&
      spec.reward().scorers().empty()) {
    return InvalidArgument(
        "evaluate.scorers: an evaluation needs scorers here or in the reward section");
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::shared_ptr<const PreparedJob>> PrepareJob(const v1::JobSpec& spec) {
  ROLLCALL_RETURN_IF_ERROR(ValidateJobSpec(spec));
  ROLLCALL_RETURN_IF_ERROR(CheckScorers(spec));
  auto job = std::make_shared<PreparedJob>();
  job->spec = std::make_shared<const v1::JobSpec>(spec);

  ROLLCALL_ASSIGN_OR_RETURN(const ModelDirectoryInfo model,
                            CheckModelDirectory(spec.model().path()));
  if (!model.has_output_projection) {
    return InvalidArgument(spec.model().path() +
                           ": model.path needs a language model, this is a "
                           "critic without an output projection");
  }
  ROLLCALL_ASSIGN_OR_RETURN(job->tokenizer, LoadTokenizer(spec.model().path()));
  const Status fits = CheckTokenizerFits(*job->tokenizer, model.config.vocab_size);
  if (!fits.ok()) return InvalidArgument(spec.model().path() + ": " + Message(fits));
  job->vocab_size = model.config.vocab_size;
  job->stop_token_ids = model.config.eos_token_ids;

  const int64_t max_positions = model.config.max_positions;
  const int64_t max_new_tokens = spec.rollout().max_new_tokens();
  const bool samples = !job->from_dataset() || !spec.evaluate().path().empty();
  if (samples && max_new_tokens >= max_positions) {
    return InvalidArgument("rollout.max_new_tokens: " + std::to_string(max_new_tokens) +
                           " leaves no room for a prompt, the model has " +
                           std::to_string(max_positions) + " positions");
  }
  RowLimits limits;
  limits.max_prompt_tokens = spec.data().max_prompt_tokens();
  limits.max_completion_tokens = spec.data().max_completion_tokens();
  limits.max_positions = max_positions;
  RowLimits sampled = limits;
  sampled.max_prompt_tokens =
      std::min<int64_t>(limits.max_prompt_tokens, max_positions - max_new_tokens);
  if (!job->stop_token_ids.empty()) limits.end_token = job->stop_token_ids.front();

  ROLLCALL_ASSIGN_OR_RETURN(
      job->data, ReadRows(spec.data().path(), *job->tokenizer, spec.data().prompt_field(),
                          CompletionFields(spec.data()), job->from_dataset() ? limits : sampled,
                          /*max_rows=*/0));
  const auto usable = static_cast<int64_t>(job->data.usable.size());
  if (usable < spec.train().prompts_per_step()) {
    return InvalidArgument(
        "train.prompts_per_step: " + std::to_string(spec.train().prompts_per_step()) +
        " rows are needed in one step, " + spec.data().path() + " has " + std::to_string(usable) +
        " usable rows (" + std::to_string(job->data.num_dropped) + " are too long)");
  }
  if (!spec.evaluate().path().empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(job->evaluation, ReadRows(spec.evaluate().path(), *job->tokenizer,
                                                        spec.data().prompt_field(), {}, sampled,
                                                        spec.evaluate().max_prompts()));
    if (job->evaluation.usable.empty()) {
      return InvalidArgument("evaluate.path: every prompt of " + spec.evaluate().path() +
                             " is too long for data.max_prompt_tokens or the model");
    }
  }
  return std::shared_ptr<const PreparedJob>(std::move(job));
}

StatusOr<std::string> MakeRunDirectory(const v1::JobSpec& spec, JobNumber job,
                                       const std::string& source_yaml) {
  const std::string& output_dir = spec.run().output_dir();
  if (!std::filesystem::path(output_dir).is_absolute()) {
    return InvalidArgument("run.output_dir: '" + output_dir + "' must be an absolute path here");
  }
  const std::string wanted =
      (std::filesystem::path(output_dir) / (spec.run().name() + "-" + JobId(job))).string();
  std::string run_dir = wanted;
  Status status = MakeDirectories(output_dir);
  // A directory that is there belongs to another cluster, or to this one before its state was
  // removed: its lines and checkpoints must not mix with those of this job.
  for (int i = 2; status.ok(); ++i) {
    std::error_code error;
    if (std::filesystem::create_directory(run_dir, error)) break;
    if (error || i > kMaxRunDirectories) {
      status = FailedPrecondition("cannot make directory '" + run_dir +
                                  "': " + (error ? error.message() : "too many of its name"));
    } else {
      run_dir = wanted + "." + std::to_string(i);
    }
  }
  if (status.ok()) status = WriteFileAtomic(run_dir + "/job.yaml", source_yaml);
  if (status.ok()) status = WriteFileAtomic(run_dir + "/resolved.yaml", JobSpecToYaml(spec));
  if (!status.ok()) {
    return InvalidArgument("run.output_dir: the run directory cannot be written: " +
                           Message(status));
  }
  return run_dir;
}

}  // namespace rollcall::coordinator
