// Reference log-probabilities of data set rows, which come back every epoch. Keyed by content.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "services/common/storage/files.h"
#include "trainer/batch/types.h"

namespace rollcall {

// Not thread-safe. Holds up to `max_tokens` tokens; when full it starts over.
class ReferenceCache {
 public:
  explicit ReferenceCache(int64_t max_tokens) : max_tokens_(max_tokens) {}

  // One value per trainable token; null when not held. Valid until the next Put.
  const std::vector<double>* Find(const TrainSequence& sequence) const;
  void Put(const TrainSequence& sequence, std::vector<double> logprobs);

 private:
  const int64_t max_tokens_;
  int64_t num_tokens_ = 0;
  std::map<Hash128, std::vector<double>> entries_;
};

}  // namespace rollcall
