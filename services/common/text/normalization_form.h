// Unicode normalization forms, with the data of Unicode 9.0 (see unicode.h).
// Source: Unicode Standard Annex 15.
#pragma once

#include "services/common/text/aligned_text.h"

namespace rollcall {

enum class NormalizationForm { kNfc, kNfd, kNfkc, kNfkd };

// Changes nothing, and costs one look at each character, where the text is already in the form.
void NormalizeForm(NormalizationForm form, AlignedText* text);

}  // namespace rollcall
