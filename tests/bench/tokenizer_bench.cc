// Speed of one tokenizer on one text, one thread:
//   tokenizer_bench DIRECTORY TEXT
// TEXT is cut into documents of about 16 KiB and into lines. Prints one JSON object with MB (10^6
// bytes of text) per second of processor time, the best of several rounds.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "services/common/storage/files.h"
#include "services/common/text/tokenizer.h"

namespace rollcall {
namespace {

constexpr size_t kDocumentBytes = 16 << 10;
constexpr int kRounds = 7;
constexpr uint64_t kMaxTextBytes = 64 << 20;

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t size = std::min(text.find('\n'), text.size() - 1) + 1;
    lines.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return lines;
}

// Whole lines.
std::vector<std::string_view> Documents(const std::vector<std::string_view>& lines) {
  std::vector<std::string_view> documents;
  for (const std::string_view line : lines) {
    if (documents.empty() || documents.back().size() >= kDocumentBytes) {
      documents.push_back(line);
    } else {
      documents.back() = {documents.back().data(), documents.back().size() + line.size()};
    }
  }
  return documents;
}

// Of this process: other work on the machine does not count.
double CpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double BestSpeed(size_t num_bytes, const std::function<void()>& work) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const double begin = CpuSeconds();
    work();
    best = std::max(best, static_cast<double>(num_bytes) / 1e6 / (CpuSeconds() - begin));
  }
  return best;
}

Status Run(const std::string& directory, const std::string& path) {
  ROLLCALL_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(directory));
  ROLLCALL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxTextBytes));
  const auto lines = Lines(text);
  const auto documents = Documents(lines);
  constexpr auto kSpecial = Tokenizer::SpecialTokens::kParse;
  Status status;
  std::vector<std::vector<int32_t>> ids;
  const auto encode = [&](const std::vector<std::string_view>& parts) {
    ids.clear();
    for (const std::string_view part : parts) {
      auto encoded = tokenizer->Encode(part, kSpecial);
      if (!encoded.ok()) status = encoded.status();
      ids.push_back(std::move(encoded).value_or(std::vector<int32_t>()));
    }
  };
  const double by_line = BestSpeed(text.size(), [&] { encode(lines); });
  const double by_document = BestSpeed(text.size(), [&] { encode(documents); });
  const double with_offsets = BestSpeed(text.size(), [&] {
    for (const std::string_view document : documents) {
      const auto encoded = tokenizer->EncodeWithOffsets(document, kSpecial);
      if (!encoded.ok()) status = encoded.status();
    }
  });
  size_t num_tokens = 0;
  for (const auto& document : ids) num_tokens += document.size();
  const double decode = BestSpeed(text.size(), [&] {
    for (const auto& document : ids) {
      const auto decoded = tokenizer->Decode(document, Tokenizer::Skip::kNothing);
      if (!decoded.ok()) status = decoded.status();
    }
  });
  ROLLCALL_RETURN_IF_ERROR(status);
  std::printf(
      "{\"documents\": %.3f, \"lines\": %.3f, \"offsets\": %.3f, \"decode\": %.3f, "
      "\"tokens\": %zu}\n",
      by_document, by_line, with_offsets, decode, num_tokens);
  return OkStatus();
}

}  // namespace
}  // namespace rollcall

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: tokenizer_bench DIRECTORY TEXT\n";
    return 2;
  }
  const rollcall::Status status = rollcall::Run(argv[1], argv[2]);
  if (!status.ok()) std::cerr << "error: " << rollcall::Message(status) << "\n";
  return status.ok() ? 0 : 1;
}
