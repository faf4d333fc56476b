// One scorer with its settings.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "reward_server/scoring/types.h"

namespace rollcall {

// Parts of the input that a score depends on besides prompt and completion. They are part of the
// key under which the score is cached.
struct ScorerReads {
  bool answer = false;
  bool row = false;
  bool token_ids = false;
};

// Immutable and thread-safe.
class Scorer {
 public:
  virtual ~Scorer() = default;
  // Blocks at most until `deadline`. The same input gives the same value.
  virtual ScoreResult Score(const ScoreInput& input, absl::Time deadline) const = 0;
  virtual ScorerReads reads() const = 0;
  // host:port that the scorer calls; empty for one that runs here. Scorers with one address share a
  // breaker and a limit.
  virtual std::string address() const { return ""; }
  // Most calls to the address at one time.
  virtual int concurrency() const { return 1; }
};

}  // namespace rollcall
