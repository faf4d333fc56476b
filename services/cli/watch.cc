#include "services/cli/watch.h"

#include <CLI/CLI.hpp>

#include "absl/time/clock.h"
#include "services/cli/proto_json.h"
#include "services/cli/render/watch_view.h"
#include "services/cli/verbs.h"
#include "services/common/config/duration_text.h"

namespace rollcall {
namespace {

// Shows events as they come. One of three ways, chosen once.
class Display {
 public:
  explicit Display(const Context& context) : context_(context) {}

  void OnEvent(const v1::JobEvent& event) {
    const bool was_connected = is_connected_;
    is_connected_ = true;
    const bool is_news = model_.Apply(event);
    if (context_.flags.json) {
      // A repeated step or evaluation is dropped; a status is always worth a line.
      if (is_news || event.has_status()) PrintLine(JsonText(ToJson(event)));
    } else if (context_.is_terminal) {
      // A burst of old steps after connecting is drawn once in a while, the end always.
      const bool is_end = event.has_status() && IsTerminal(event.status().state());
      if (is_end || absl::Now() - last_draw_ >= kRedrawInterval) Draw();
    } else {
      if (!was_connected && had_disconnect_) PrintLine("connected again");
      if (is_news) PrintPlain(event);
    }
  }

  void OnDisconnect(const Status& status) {
    if (is_connected_) {
      had_disconnect_ = true;
      disconnect_ = "lost the coordinator, trying again: " + OneLine(Message(status));
      if (!context_.flags.json && !context_.is_terminal) PrintLine(disconnect_);
    }
    is_connected_ = false;
    if (!context_.flags.json && context_.is_terminal) Draw();
  }

  // The last state of the screen.
  void Finish() {
    if (!context_.flags.json && context_.is_terminal) Draw();
  }

  const WatchModel& model() const { return model_; }

 private:
  static constexpr absl::Duration kRedrawInterval = absl::Milliseconds(66);

  void Draw() {
    last_draw_ = absl::Now();
    // The window may have been resized.
    bool is_terminal = false;
    const TerminalStyle style = DetectStyle(&is_terminal);
    std::vector<std::string> lines = WatchScreen(model_, style);
    if (!is_connected_) lines.push_back(Truncate(disconnect_, style.width));
    Print(Redraw(num_drawn_, lines));
    num_drawn_ = static_cast<int>(lines.size());
  }

  void PrintPlain(const v1::JobEvent& event) {
    switch (event.event_case()) {
      case v1::JobEvent::kStatus:
        PrintLine(StateLine(event.status()));
        break;
      case v1::JobEvent::kStep:
        PrintLine(StepLine(model_, event.step()));
        break;
      case v1::JobEvent::kEvaluation:
        PrintLine(EvaluationLine(event.evaluation()));
        break;
      default:
        break;
    }
  }

  const Context& context_;
  WatchModel model_;
  bool is_connected_ = true;
  bool had_disconnect_ = false;
  std::string disconnect_;
  int num_drawn_ = 0;
  absl::Time last_draw_ = absl::InfinitePast();
};

Status Watch(const Context& context, const std::string& job, const std::string& timeout) {
  StatusOr<absl::Duration> patience = ParseDurationText(timeout);
  if (!patience.ok()) return Annotate(patience.status(), "--timeout");
  ROLLCALL_ASSIGN_OR_RETURN(JobClient client, context.Connect());
  ROLLCALL_ASSIGN_OR_RETURN(const std::string job_id, client.ResolveJob(job));
  return WatchUntilEnd(context, client, job_id, *patience);
}

}  // namespace

Status WatchUntilEnd(const Context& context, JobClient& client, const std::string& job_id,
                     absl::Duration patience) {
  Display display(context);
  const Status status = FollowJob(
      client, job_id, patience, [&](const v1::JobEvent& event) { display.OnEvent(event); },
      [&](const Status& lost) { display.OnDisconnect(lost); });
  display.Finish();
  ROLLCALL_RETURN_IF_ERROR(status);
  const v1::JobStatus& job = display.model().status();
  if (job.state() == v1::JOB_STATE_SUCCEEDED) return OkStatus();
  return Aborted("job " + job_id + " " + StateText(job.state()) +
                 (job.state_reason().empty() ? "" : ": " + job.state_reason()) +
                 "\nsee `rollcall status " + job_id + "` and `rollcall logs`");
}

void AddWatch(CLI::App& app, Context& context) {
  struct Flags {
    std::string job;
    std::string timeout = "60s";
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand("watch", "Follow a job to its end; fails if the job fails");
  verb->add_option("JOB", flags->job, "Id, unique prefix of it, name, or 'last'")->required();
  verb->add_option("--timeout", flags->timeout,
                   "Longest time without the coordinator before giving up")
      ->capture_default_str();
  verb->callback([&context, flags] {
    context.action = [&context, flags] { return Watch(context, flags->job, flags->timeout); };
  });
}

}  // namespace rollcall
