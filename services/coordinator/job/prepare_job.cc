#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "services/common/config/job_file.h"
#include "services/common/data/job_data.h"
#include "services/common/data/template_renderer.h"
#include "services/common/sampling/sampling_codec.h"
#include "services/common/storage/files.h"
#include "services/coordinator/job/prepare_rows.h"
#include "services/coordinator/job/prepared_job.h"
#include "services/model/adapter/lora_adapter.h"
#include "services/model/decoder/kv_budget.h"
#include "services/model/weights/model_files.h"

namespace rollcall::coordinator {
namespace {

constexpr int kMaxRunDirectories = 1000;

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

Status CheckEnoughRows(const v1::JobSpec& spec, const std::vector<std::string>& files,
                       const PreparedRows& rows) {
  const auto usable = static_cast<int64_t>(rows.usable.size());
  if (usable >= spec.train().prompts_per_step()) return OkStatus();
  std::string dropped = std::to_string(rows.num_too_long) + " are too long";
  if (rows.num_without_preference > 0) {
    dropped += ", " + std::to_string(rows.num_without_preference) + " prefer neither side";
  }
  return InvalidArgument(
      "train.prompts_per_step: " + std::to_string(spec.train().prompts_per_step()) +
      " rows are needed in one step, " + FilesText(files) + " has " + std::to_string(usable) +
      " usable rows (" + dropped + ")");
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
  if (!spec.model().adapter().empty()) {
    const auto adapter = ReadAdapter(spec.model().adapter(), model.config, Head::kLanguageModel);
    if (!adapter.ok()) return InvalidArgument("model.adapter: " + Message(adapter.status()));
  }
  ROLLCALL_ASSIGN_OR_RETURN(job->tokenizer, LoadTokenizer(spec.model().path()));
  const Status fits = CheckTokenizerFits(*job->tokenizer, model.config.vocab_size);
  if (!fits.ok()) return InvalidArgument(spec.model().path() + ": " + Message(fits));
  job->vocab_size = model.config.vocab_size;
  job->stop_token_ids = model.config.eos_token_ids;
  ROLLCALL_ASSIGN_OR_RETURN(const v1::SamplingParams sampling, ParamsFromSpec(spec.rollout()));
  const Status named = CheckSamplingLaw(LawFromParams(sampling), job->vocab_size);
  if (!named.ok()) return Annotate(named, "rollout");
  const Status budget = CheckKvBudget({.num_heavy = sampling.kv_budget().num_heavy(),
                                       .num_recent = sampling.kv_budget().num_recent()},
                                      model.config);
  if (!budget.ok()) return Annotate(budget, "rollout.kv_budget");

  const int64_t max_positions = model.config.max_positions;
  const int64_t max_new_tokens = spec.rollout().max_new_tokens();
  const bool samples = !job->from_dataset() || !spec.evaluate().path().empty();
  if (samples && max_new_tokens >= max_positions) {
    return InvalidArgument("rollout.max_new_tokens: " + std::to_string(max_new_tokens) +
                           " leaves no room for a prompt, the model has " +
                           std::to_string(max_positions) + " positions");
  }
  ExampleEncoding encoding{.tokenizer = *job->tokenizer};
  // Rows of texts need none.
  const auto renderer = LoadConversationRenderer(spec.model().path());
  if (renderer.ok()) {
    encoding.renderer = renderer->get();
  } else {
    encoding.why_no_renderer = Message(renderer.status());
  }
  RowLimits limits;
  limits.max_prompt_tokens = spec.data().max_prompt_tokens();
  limits.max_completion_tokens = spec.data().max_completion_tokens();
  limits.max_positions = max_positions;
  RowLimits sampled = limits;
  sampled.max_prompt_tokens =
      std::min<int64_t>(limits.max_prompt_tokens, max_positions - max_new_tokens);
  if (!job->stop_token_ids.empty()) encoding.end_token = job->stop_token_ids.front();

  RowsRequest request;
  ROLLCALL_ASSIGN_OR_RETURN(request.files, TrainingFiles(spec));
  request.kind = KindFromSpec(spec.data().kind());
  request.columns = ColumnsFromSpec(spec.data().columns());
  request.ranked_pairs = spec.data().ranked_pairs();
  request.limits = job->from_dataset() ? limits : sampled;
  request.max_rows = spec.data().max_rows();
  ROLLCALL_ASSIGN_OR_RETURN(job->data, PrepareRows(request, encoding));
  ROLLCALL_RETURN_IF_ERROR(CheckEnoughRows(spec, request.files, job->data));
  if (!spec.evaluate().path().empty()) {
    ROLLCALL_ASSIGN_OR_RETURN(request.files, EvaluationFiles(spec));
    request.kind = ExampleKind::kPrompts;
    request.limits = sampled;
    request.max_rows = spec.evaluate().max_prompts();
    ROLLCALL_ASSIGN_OR_RETURN(job->evaluation, PrepareRows(request, encoding));
    if (job->evaluation.usable.empty()) {
      return InvalidArgument("evaluate.path: every prompt of " + FilesText(request.files) +
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
