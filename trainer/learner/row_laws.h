// The law that every trainable token of a micro-batch was drawn from.
#pragma once

#include <memory>

#include "services/model/law/row_laws.h"
#include "trainer/batch/packing.h"
#include "trainer/learner/flat_batch.h"

namespace rollcall {

// One entry per target of the packed micro-batch; null when no token needs one, so that plain
// temperature sampling costs nothing. Borrows from the batch that `flat` was made of, and from
// `flat`. O(trainable tokens).
std::shared_ptr<const RowLaws> MakeRowLaws(const SamplingLaw& law, const FlatBatch& flat,
                                           const PackedTokens& packed);

}  // namespace rollcall
