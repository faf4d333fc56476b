#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/random.h>

#include "services/cli/plan.h"
#include "services/cli/proto_json.h"
#include "services/cli/verbs.h"
#include "services/cli/watch.h"
#include "services/common/config/job_file.h"
#include "services/common/storage/files.h"

namespace rollcall {
namespace {

struct SubmitFlags {
  std::string path;
  std::vector<std::string> overrides;
  bool dry_run = false;
  bool watch = false;
};

constexpr uint64_t kMaxSourceBytes = 256 << 10;

// Names one submission: sent again after a lost answer, it makes no second job.
StatusOr<std::string> NewRequestId() {
  std::array<uint8_t, 16> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return Internal("no random bytes from the system");
  }
  return HexString(bytes);
}

// The file as the user wrote it, with what the command line changed.
std::string SourceWithOverrides(std::string source, const std::vector<std::string>& overrides) {
  std::string comments;
  for (const std::string& text : overrides) comments += "# --set " + text + "\n";
  return source.size() + comments.size() <= kMaxSourceBytes ? comments + source : source;
}

Status Submit(const Context& context, const SubmitFlags& flags) {
  ROLLCALL_ASSIGN_OR_RETURN(const v1::JobSpec spec, LoadJob(flags.path, flags.overrides));
  if (flags.dry_run) return PrintPlan(context, spec);
  v1::SubmitJobRequest request;
  *request.mutable_spec() = spec;
  ROLLCALL_ASSIGN_OR_RETURN(*request.mutable_request_id(), NewRequestId());
  ROLLCALL_ASSIGN_OR_RETURN(std::string source, ReadFile(flags.path, kMaxSourceBytes));
  request.set_source_yaml(SourceWithOverrides(std::move(source), flags.overrides));
  ROLLCALL_ASSIGN_OR_RETURN(JobClient client, context.Connect());
  ROLLCALL_ASSIGN_OR_RETURN(const v1::SubmitJobResponse response, client.Submit(request));
  if (context.flags.json) {
    PrintLine(JsonText(ToJson(response)));
  } else {
    PrintLine("job " + response.job_id() + ", run directory " + response.run_dir());
  }
  if (!flags.watch) return OkStatus();
  return WatchUntilEnd(context, client, response.job_id(), absl::Seconds(60));
}

}  // namespace

void AddSubmit(CLI::App& app, Context& context) {
  auto flags = std::make_shared<SubmitFlags>();
  CLI::App* verb = app.add_subcommand("submit", "Submit a job file");
  verb->add_option("FILE", flags->path, "Job file")->required();
  verb->add_option("--set", flags->overrides, "section.key=value, over the file; repeatable")
      ->type_size(1)
      ->allow_extra_args(false);
  verb->add_flag("--dry-run", flags->dry_run, "Print the plan and submit nothing");
  verb->add_flag("--watch,-w", flags->watch, "Follow the job to its end");
  verb->callback([&context, flags] {
    context.action = [&context, flags] { return Submit(context, *flags); };
  });
}

}  // namespace rollcall
