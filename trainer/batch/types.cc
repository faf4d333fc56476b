#include "trainer/batch/types.h"

namespace rollcall {

int64_t NumTrainable(const TrainSequence& sequence) {
  int64_t count = 0;
  for (size_t t = 1; t < sequence.trains.size(); ++t) count += sequence.trains[t] != 0;
  return count;
}

std::vector<int64_t> TrainablePositions(const TrainSequence& sequence) {
  std::vector<int64_t> positions;
  for (size_t t = 1; t < sequence.trains.size(); ++t) {
    if (sequence.trains[t] != 0) positions.push_back(static_cast<int64_t>(t));
  }
  return positions;
}

}  // namespace rollcall
