// WatchJob over real gRPC on loopback, with a real journal behind it.
#include "services/coordinator/watch_stream.h"

#include <memory>
#include <string>
#include <vector>

#include "rollcall/v1/coordinator.grpc.pb.h"
#include "services/base/runtime/clock.h"
#include "services/base/runtime/executor.h"
#include "services/common/rpc/server.h"
#include "services/coordinator/coordinator_service.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/jobs.h"
#include "tests/unit/coordinator/recorders.h"

namespace rollcall::coordinator {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

// A coordinator with one job; its committed steps are written into the journal by hand.
class World {
 public:
  explicit World(int64_t num_steps) {
    auto opened = SqliteStore::Open(dir_.File("journal.db"), SqliteStore::Access::kOwner);
    REQUIRE_OK(opened.status());
    auto started = AsyncJournal::Start({.path = dir_.File("journal.db")}, *std::move(opened),
                                       logger_, metrics_);
    REQUIRE_OK(started.status());
    journal_ = *std::move(started);
    coordinator_ = std::make_unique<Coordinator>(
        CoreOptions{}, JobEnvironment{logger_, coordinator_metrics_, files_}, *journal_, clock_);
    services_ = CoordinatorServices::Create(*coordinator_, executor_, metrics_);
    auto server = RpcServer::Start({}, services_->services());
    REQUIRE_OK(server.status());
    server_ = *std::move(server);
    // The transport takes in 64 KiB for a client that does not read, and no more.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    stub_ = v1::JobService::NewStub(grpc::CreateCustomChannel(
        server_->address(), grpc::InsecureChannelCredentials(), arguments));

    auto prepared = testing::SmallPreparedJob(testing::SmallJobSpec());
    coordinator_->Do([&](Core& core, Turn& turn) {
      core.AddJob(turn, testing::SmallJobRecord(*prepared), prepared,
                  {.reply = [](const Status&, v1::SubmitJobResponse) {}});
    });
    for (int64_t step = 1; step <= num_steps; ++step) {
      journal_->Append({StepRecord{.job = 1,
                                   .step = step,
                                   .time = absl::UnixEpoch(),
                                   .metrics = {{"loss", static_cast<double>(step)}}}},
                       nullptr);
    }
  }
  ~World() {
    coordinator_->Stop();
    journal_.reset();
    server_->Shutdown(absl::ZeroDuration());
  }

  // A learner takes the job: RUNNING.
  void Run() {
    v1::RegisterRequest request;
    request.set_name("learner-0");
    request.set_role(v1::PROCESS_ROLE_LEARNER);
    coordinator_->Do([&](Core& core, Turn& turn) {
      const auto response = core.Register(turn, request);
      REQUIRE_OK(response.status());
      v1::AcquireAssignmentRequest acquire;
      acquire.set_worker_id(response->worker_id());
      core.AcquireAssignment(turn, acquire,
                             {.reply = [](const Status&, v1::AcquireAssignmentResponse) {}});
    });
  }
  void Control(Core::Control control) {
    v1::ControlJobRequest request;
    request.set_job_id("j000001");
    coordinator_->Do([&](Core& core, Turn& turn) {
      core.ControlJob(
          turn, control, request,
          {.reply = [](const Status& status, v1::ControlJobResponse) { CHECK(status.ok()); }});
    });
  }
  // Waits until the journal did everything that it was given.
  void Flush() {
    Mutex mu;
    CondVar done;
    bool flushed = false;
    journal_->Append({}, [&] {
      MutexLock lock(mu);
      flushed = true;
      done.NotifyAll();
    });
    const absl::Time deadline = absl::Now() + kPatience;
    MutexLock lock(mu);
    while (!flushed && absl::Now() < deadline) done.WaitFor(mu, absl::Milliseconds(100));
    REQUIRE(flushed);
  }
  v1::JobService::Stub& stub() { return *stub_; }

 private:
  testing::TempDir dir_;
  testing::RecordingLogger logger_;
  testing::RecordingMetrics metrics_;
  CoordinatorMetrics coordinator_metrics_{metrics_};
  testing::NoRunFiles files_;
  SystemClock clock_;
  InlineExecutor executor_;
  std::unique_ptr<AsyncJournal> journal_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<CoordinatorServices> services_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<v1::JobService::Stub> stub_;
};

class Watch {
 public:
  Watch(World& world, int64_t from_step, const std::string& job_id = "j000001") {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    v1::WatchJobRequest request;
    request.set_job_id(job_id);
    request.set_from_step(from_step);
    reader_ = world.stub().WatchJob(&context_, request);
  }
  bool Next(v1::JobEvent* event) { return reader_->Read(event); }
  void Cancel() { context_.TryCancel(); }
  grpc::Status Finish() { return reader_->Finish(); }

  struct Seen {
    std::vector<int64_t> steps;
    int num_statuses = 0;
    v1::JobState last_state = v1::JOB_STATE_UNSPECIFIED;
    grpc::Status status;
  };
  // Everything until the stream ends.
  Seen Drain() {
    Seen seen;
    v1::JobEvent event;
    while (Next(&event)) {
      if (event.has_step()) {
        seen.steps.push_back(event.step().step());
        CHECK(event.step().metrics().at("loss") == static_cast<double>(event.step().step()));
      }
      if (event.has_status()) {
        ++seen.num_statuses;
        seen.last_state = event.status().state();
      }
    }
    seen.status = Finish();
    return seen;
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::JobEvent>> reader_;
};

std::vector<int64_t> StepsFrom(int64_t first, int64_t last) {
  std::vector<int64_t> steps;
  for (int64_t step = first; step <= last; ++step) steps.push_back(step);
  return steps;
}

TEST_CASE("WatchJob: all steps from the journal, then the end", "[rpc][coordinator]") {
  World world(1000);  // several pages
  world.Control(Core::Control::kCancel);
  for (const int64_t from : {0, 1, 256, 257, 700, 1000}) {
    INFO("from step " << from);
    const Watch::Seen seen = Watch(world, from).Drain();
    CHECK(seen.status.ok());
    CHECK(seen.steps == StepsFrom(std::max<int64_t>(1, from), 1000));
    CHECK(seen.last_state == v1::JOB_STATE_CANCELLED);
  }
  const Watch::Seen beyond = Watch(world, 1001).Drain();
  CHECK(beyond.status.ok());
  CHECK(beyond.steps.empty());
  CHECK(beyond.last_state == v1::JOB_STATE_CANCELLED);
}

TEST_CASE("WatchJob: a watcher of a running job sees it end", "[rpc][coordinator]") {
  World world(10);
  world.Run();
  Watch watch(world, 1);
  v1::JobEvent event;
  int num_steps = 0;
  while (num_steps < 10 && watch.Next(&event)) num_steps += event.has_step() ? 1 : 0;
  REQUIRE(num_steps == 10);
  world.Control(Core::Control::kPause);
  world.Control(Core::Control::kResume);
  world.Control(Core::Control::kCancel);
  const Watch::Seen seen = watch.Drain();
  CHECK(seen.status.ok());
  CHECK(seen.num_statuses >= 3);
  CHECK(seen.last_state == v1::JOB_STATE_CANCELLED);
}

TEST_CASE("WatchJob: a job that is not there is said so", "[rpc][coordinator]") {
  World world(0);
  for (const std::string id : {"j000009", "nonsense", ""}) {
    const Watch::Seen seen = Watch(world, 1, id).Drain();
    CHECK(seen.status.error_code() == grpc::StatusCode::NOT_FOUND);
    CHECK(seen.status.error_message() == "there is no job '" + id + "'");
  }
}

TEST_CASE("WatchJob: a watcher that does not read is dropped, and may come back",
          "[rpc][coordinator]") {
  World world(3000);
  world.Run();
  Watch slow(world, 1);
  v1::JobEvent event;
  REQUIRE(slow.Next(&event));
  const int64_t first = event.has_step() ? event.step().step() + 1 : 1;
  // Each makes an event of some hundred bytes: more than the transport and the queue take in.
  constexpr int kPairs = 4000;
  for (int i = 0; i < kPairs; ++i) {
    world.Control(Core::Control::kPause);
    world.Control(Core::Control::kResume);
  }
  world.Flush();
  // Others are served meanwhile.
  Watch quick(world, 1);
  int num_steps = 0;
  while (num_steps < 3000 && quick.Next(&event)) num_steps += event.has_step() ? 1 : 0;
  CHECK(num_steps == 3000);
  quick.Cancel();
  CHECK(quick.Finish().error_code() == grpc::StatusCode::CANCELLED);

  const Watch::Seen seen = slow.Drain();
  INFO(seen.status.error_message() << " after " << seen.num_statuses << " events");
  CHECK(seen.status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(seen.num_statuses < 2 * kPairs);
  // What it got has no gap, and it is told where to go on.
  const int64_t last = first + static_cast<int64_t>(seen.steps.size()) - 1;
  REQUIRE(last < 3000);
  CHECK(seen.steps == StepsFrom(first, last));
  CHECK(seen.status.error_message() ==
        "the watcher is too slow: watch again from step " + std::to_string(last + 1));

  world.Control(Core::Control::kCancel);
  const Watch::Seen again = Watch(world, last + 1).Drain();
  CHECK(again.status.ok());
  CHECK(again.steps == StepsFrom(last + 1, 3000));
  CHECK(again.last_state == v1::JOB_STATE_CANCELLED);
}

TEST_CASE("WatchJob: a watcher that leaves costs nothing", "[rpc][coordinator]") {
  World world(5);
  world.Run();
  for (int i = 0; i < 20; ++i) {
    Watch watch(world, 1);
    v1::JobEvent event;
    if (i % 2 == 0) REQUIRE(watch.Next(&event));
    watch.Cancel();
    CHECK(watch.Finish().error_code() == grpc::StatusCode::CANCELLED);
    world.Control(i % 2 == 0 ? Core::Control::kPause : Core::Control::kResume);
  }
  world.Flush();
}

}  // namespace
}  // namespace rollcall::coordinator
