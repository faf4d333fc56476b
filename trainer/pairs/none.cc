#include "trainer/pairs/none.h"

namespace rollcall {

PairSet BuildNoPairs(const TrainGroup&) { return {}; }

}  // namespace rollcall
