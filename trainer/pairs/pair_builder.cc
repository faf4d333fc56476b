#include "trainer/pairs/pair_builder.h"

#include "trainer/batch/find_by_name.h"
#include "trainer/pairs/as_given.h"
#include "trainer/pairs/best_worst.h"
#include "trainer/pairs/none.h"

namespace rollcall {
namespace {

constexpr PairBuilder kPairBuilders[] = {
    {"none", BuildNoPairs},
    {"as_given", BuildPairsAsGiven},
    {"best_worst", BuildBestWorstPair},
};

}  // namespace

std::span<const PairBuilder> PairBuilderParts() { return kPairBuilders; }

StatusOr<PairBuilder> FindPairBuilder(std::string_view name) {
  return FindByName(PairBuilderParts(), "algorithm.pair_builder", name);
}

void AddPair(const TrainGroup& group, Pair pair, PairSet* set) {
  const TrainSequence& chosen = group.sequences[pair.chosen];
  const TrainSequence& rejected = group.sequences[pair.rejected];
  if (NumTrainable(chosen) == 0 || NumTrainable(rejected) == 0) {
    ++set->empty;
  } else if (chosen.token_ids == rejected.token_ids) {
    ++set->duplicates;
  } else {
    set->pairs.push_back(pair);
  }
}

}  // namespace rollcall
