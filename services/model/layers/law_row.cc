#include "services/model/layers/law_row.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace rollcall {

LawRow::LawRow(const RowLaws* laws, int64_t vocab_size)
    : laws_(laws), edits_(laws != nullptr && laws->law.has_penalties() ? vocab_size : 0) {}

LawRow::Kept LawRow::Apply(int64_t n, int32_t target, std::span<float> logits_V) {
  const Kept whole{logits_V.data(), static_cast<int64_t>(logits_V.size()), target};
  if (laws_ == nullptr) return whole;
  const RowLaw& row = laws_->rows_N[static_cast<size_t>(n)];
  if (laws_->law.edits_logits()) edits_.Apply(laws_->law, row.context, logits_V);
  if (row.kept == nullptr || row.kept->IsAll(row.number)) return whole;
  row.kept->Decode(row.number, &ids_);
  const auto place = std::lower_bound(ids_.begin(), ids_.end(), target);
  if (place == ids_.end() || *place != target) {
    throw std::invalid_argument("token " + std::to_string(target) +
                                " is not in the set that its law kept");
  }
  kept_logits_.resize(ids_.size());
  for (size_t i = 0; i < ids_.size(); ++i) kept_logits_[i] = logits_V[ids_[i]];
  return {kept_logits_.data(), static_cast<int64_t>(ids_.size()), place - ids_.begin()};
}

void LawRow::Backward(const Kept& kept, std::span<float> dlogits_V) const {
  if (laws_ == nullptr) return;
  if (kept.logits != dlogits_V.data()) {
    std::fill(dlogits_V.begin(), dlogits_V.end(), 0.0F);
    for (size_t i = 0; i < ids_.size(); ++i) dlogits_V[ids_[i]] = kept_logits_[i];
  }
  if (laws_->law.edits_logits()) edits_.Backward(dlogits_V);
}

}  // namespace rollcall
