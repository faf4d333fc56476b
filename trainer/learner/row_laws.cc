#include "trainer/learner/row_laws.h"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

namespace rollcall {
namespace {

bool HasKeptSets(const FlatBatch& flat, const PackedTokens& packed) {
  return std::any_of(packed.sequence_indices.begin(), packed.sequence_indices.end(),
                     [&](int64_t s) {
                       const auto& kept = flat.kept_S[static_cast<size_t>(s)];
                       return std::any_of(kept.begin(), kept.end(),
                                          [](const auto& sets) { return sets.has_value(); });
                     });
}

}  // namespace

std::shared_ptr<const RowLaws> MakeRowLaws(const SamplingLaw& law, const FlatBatch& flat,
                                           const PackedTokens& packed) {
  if (!law.edits_logits() && !HasKeptSets(flat, packed)) return nullptr;
  const auto laws = std::make_shared<RowLaws>();
  laws->law = law;
  laws->rows_N.reserve(packed.targets_T.size());
  for (const int64_t s : packed.sequence_indices) {
    const TrainSequence& sequence = *flat.sequences_S[static_cast<size_t>(s)];
    const std::span<const int32_t> tokens = sequence.token_ids;
    size_t r = 0;
    for (const int64_t t : TrainablePositions(sequence)) {
      while (r < sequence.runs.size() && sequence.runs[r].end <= t) ++r;
      RowLaw& row = laws->rows_N.emplace_back();
      if (r == sequence.runs.size() || t < sequence.runs[r].begin) continue;
      const auto begin = static_cast<size_t>(sequence.runs[r].begin);
      const auto position = static_cast<size_t>(t);
      row.context = {.prompt = tokens.first(begin),
                     .completion = tokens.subspan(begin, position - begin)};
      const std::optional<KeptSets>& kept = flat.kept_S[static_cast<size_t>(s)][r];
      if (kept) row.kept = &*kept;
      row.number = t - sequence.runs[r].begin;
    }
  }
  return laws;
}

}  // namespace rollcall
