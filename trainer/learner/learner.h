// The learner of one rank: a batch becomes a gradient step.
//
//   MakeLearner (weights, optimizer, group) -> Snapshot of version resume_step
//   -> Update(batch of step resume_step + 1) -> Snapshot -> ... -> SaveCheckpoint, SaveModel
//
// Every Update is one training step: score (reference, behaviour, values) -> advantages ->
// for each epoch and minibatch: forward and backward over micro-batches -> sum gradients over ranks
// -> clip -> AdamW. Losses are divided by counts over all ranks, so that neither micro-batching nor
// the world size changes the result. All ranks hold the same bits after every step.
//
// Plain types only: neither torch nor protobuf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "services/base/runtime/clock.h"
#include "services/base/status/status.h"
#include "services/base/tensor/host_tensor.h"
#include "trainer/batch/types.h"
#include "trainer/learner/options.h"

namespace rollcall {

class Communicator;

struct StepReport {
  // The same on all ranks, except for seconds_<phase> and tokens_per_second.
  std::map<std::string, double> metrics;
  // Updates of the policy, or of the critic alone while it warms up.
  int32_t optimizer_updates = 0;
};

// Called on the thread of Update; either may be null.
struct LearnerEvents {
  // "score", "forward", "backward", "reduce", "optimizer"
  std::function<void(std::string_view phase)> phase;
  // After every micro-batch.
  std::function<void()> progress;
};

// One thread at a time, except Interrupt.
class Learner {
 public:
  virtual ~Learner() = default;

  // Trains on the batch of step() + 1. A batch without anything to train on makes no update and is
  // reported as such. kInvalidArgument: the batch does not fit the model or the method; kDataLoss:
  // a loss or gradient is not finite (step and metric are named), nothing was updated by it;
  // kUnavailable, kDeadlineExceeded: the group is broken. After an error the learner is unusable.
  virtual StatusOr<StepReport> Update(const TrainBatch& batch) = 0;

  // Last step that was trained on.
  virtual int64_t step() const = 0;
  // Places of the policy's tensors in a snapshot.
  virtual const std::vector<TensorLayout>& layout() const = 0;
  virtual StatusOr<std::vector<std::byte>> Snapshot() const = 0;

  // Writes the training state (checkpoint/checkpoint.h), or the policy as a model directory.
  virtual Status SaveCheckpoint(const std::string& directory) const = 0;
  virtual Status SaveModel(const std::string& directory) const = 0;

  // Makes a collective that is under way fail soon. Thread-safe.
  virtual void Interrupt() = 0;
};

// How the ranks find each other (see services/model/parallel/communicator.h).
struct GroupOptions {
  int rank = 0;
  int world_size = 1;
  absl::Duration collective_timeout = absl::Seconds(60);
  std::string interface_address = "127.0.0.1";
  std::function<Status(const std::string& key, const std::string& value)> store_set;
  std::function<StatusOr<std::string>(const std::string& key, absl::Duration wait)> store_get;
  std::function<StatusOr<int64_t>(const std::string& key, int64_t amount)> store_add;
};

// Loads the weights, then forms the group. kInvalidArgument: unknown part or parts that do not go
// together; otherwise the errors of LoadWeights, ReadCheckpoint and MakeGlooCommunicator. The clock
// is borrowed.
StatusOr<std::unique_ptr<Learner>> MakeLearner(const LearnerOptions& options,
                                               const GroupOptions& group, const Clock& clock,
                                               LearnerEvents events);

// The same over any communicator; the factory is called once the weights are loaded.
using CommunicatorFactory = std::function<StatusOr<std::unique_ptr<Communicator>>()>;
StatusOr<std::unique_ptr<Learner>> MakeLearner(const LearnerOptions& options,
                                               const CommunicatorFactory& make_communicator,
                                               const Clock& clock, LearnerEvents events);

// Computes on one thread with fixed summation orders. Call once, before the first learner.
void ConfigureLearnerThreads();

}  // namespace rollcall
