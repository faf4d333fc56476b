// Samples as people see them.
#pragma once

#include "rollcall/v1/coordinator.pb.h"
#include "services/common/text/tokenizer.h"
#include "services/coordinator/journal/sqlite_store.h"

namespace rollcall::coordinator {

// Decodes prompt and completion of the view's trajectory; leaves them empty without a tokenizer.
void FillTexts(const Tokenizer* tokenizer, v1::SampleView* view);

v1::SampleView MakeSampleView(const StoredSample& sample, const Tokenizer* tokenizer);

}  // namespace rollcall::coordinator
