#include "services/coordinator/job/prepare_rows.h"

#include <span>
#include <utility>

#include "services/common/data/data_files.h"
#include "services/common/storage/files.h"

namespace rollcall::coordinator {
namespace {

using SidePair = std::pair<size_t, size_t>;  // places of the better and the worse completion

// Completions are in falling order; equal ones make no pair.
std::vector<SidePair> PairsOfRanking(const std::vector<double>& ranking,
                                     v1::DataSpec::RankedPairs which) {
  std::vector<SidePair> pairs;
  const auto add = [&](size_t better, size_t worse) {
    if (ranking[better] > ranking[worse]) pairs.emplace_back(better, worse);
  };
  if (which == v1::DataSpec::ALL) {
    for (size_t i = 0; i < ranking.size(); ++i) {
      for (size_t k = i + 1; k < ranking.size(); ++k) add(i, k);
    }
  } else if (which == v1::DataSpec::ADJACENT) {
    for (size_t i = 0; i + 1 < ranking.size(); ++i) add(i, i + 1);
  } else {
    add(0, ranking.size() - 1);
  }
  return pairs;
}

class RowsBuilder {
 public:
  RowsBuilder(const RowsRequest& request, const ExampleEncoding& encoding)
      : request_(request), encoding_(encoding), reader_(request.kind, request.columns) {}

  Status Add(const DataRow& row) {
    hashes_.push_back(HashBytes64(std::as_bytes(std::span(row.text))));
    ROLLCALL_ASSIGN_OR_RETURN(const Example example, reader_.Read(row.value));
    ROLLCALL_ASSIGN_OR_RETURN(EncodedExample encoded, EncodeExample(example, encoding_));
    if (example.shape != ExampleShape::kRanked) {
      AddRow(std::move(encoded), row);
      return OkStatus();
    }
    const std::vector<SidePair> pairs = PairsOfRanking(example.ranking, request_.ranked_pairs);
    if (pairs.empty()) Drop(&rows_.num_without_preference);
    for (const auto& [better, worse] : pairs) {
      AddRow({encoded.prompt, {encoded.completions[better], encoded.completions[worse]}}, row);
    }
    return OkStatus();
  }

  PreparedRows Finish() {
    rows_.hash = HexString(HashBytes128(std::as_bytes(std::span(hashes_))));
    return std::move(rows_);
  }

 private:
  void AddRow(EncodedExample&& encoded, const DataRow& row) {
    if (!Fits(encoded)) {
      Drop(&rows_.num_too_long);
      return;
    }
    if (request_.kind == ExampleKind::kPairs && encoded.completions[0] == encoded.completions[1]) {
      Drop(&rows_.num_without_preference);
      return;
    }
    rows_.usable.push_back(static_cast<int64_t>(rows_.rows.size()));
    PreparedRow& out = rows_.rows.emplace_back();
    out.prompt = std::move(encoded.prompt);
    out.completions = std::move(encoded.completions);
    // Scorers see the row of a sample; rows of data sets are not scored.
    if (request_.kind == ExampleKind::kPrompts) out.json = row.text;
  }

  // Only its place in the numbering stays.
  void Drop(int64_t* counter) {
    rows_.rows.emplace_back();
    ++*counter;
  }

  bool Fits(const EncodedExample& encoded) const {
    const RowLimits& limits = request_.limits;
    const auto prompt = static_cast<int64_t>(encoded.prompt.size());
    bool fits = prompt <= limits.max_prompt_tokens;
    for (const TokenRuns& completion : encoded.completions) {
      const int64_t size = NumTokens(completion);
      fits = fits && size <= limits.max_completion_tokens && prompt + size <= limits.max_positions;
    }
    return fits;
  }

  const RowsRequest& request_;
  const ExampleEncoding& encoding_;
  ExampleReader reader_;
  PreparedRows rows_;
  std::vector<uint64_t> hashes_;
};

}  // namespace

StatusOr<PreparedRows> PrepareRows(const RowsRequest& request, const ExampleEncoding& encoding) {
  RowsBuilder builder(request, encoding);
  ROLLCALL_RETURN_IF_ERROR(ReadRows(request.files, {.max_rows = request.max_rows},
                                    [&](const DataRow& row) { return builder.Add(row); }));
  return builder.Finish();
}

}  // namespace rollcall::coordinator
