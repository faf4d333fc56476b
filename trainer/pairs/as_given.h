// The labels of the data set: the row of preference rank 0 against every other ranked row.
#pragma once

#include "trainer/pairs/pair_builder.h"

namespace rollcall {

PairSet BuildPairsAsGiven(const TrainGroup& group);

}  // namespace rollcall
