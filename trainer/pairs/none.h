// No pairs: for objectives over tokens.
#pragma once

#include "trainer/pairs/pair_builder.h"

namespace rollcall {

PairSet BuildNoPairs(const TrainGroup& group);

}  // namespace rollcall
