#include "trainer/correction/correction.h"

#include "trainer/batch/find_by_name.h"
#include "trainer/correction/none.h"
#include "trainer/correction/token_mask.h"
#include "trainer/correction/token_truncate.h"

namespace rollcall {
namespace {

constexpr Correction kCorrections[] = {
    {"none", WeighNone},
    {"token_truncate", WeighTokenTruncate},
    {"token_mask", WeighTokenMask},
};

}  // namespace

std::span<const Correction> CorrectionParts() { return kCorrections; }

StatusOr<Correction> FindCorrection(std::string_view name) {
  return FindByName(CorrectionParts(), "algorithm.correction", name);
}

}  // namespace rollcall
