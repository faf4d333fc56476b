// The best against the worst reward of the group; the first index wins among equals, and a group
// whose best equals its worst is a tie. Source: online DPO, Guo et al. 2024, arXiv 2402.04792.
#pragma once

#include "trainer/pairs/pair_builder.h"

namespace rollcall {

PairSet BuildBestWorstPair(const TrainGroup& group);

}  // namespace rollcall
