// rollcall-parquet FILE: prints the rows of a Parquet file, one JSON object a line.
//
// A program of its own, so that the Arrow libraries meet nobody else's symbols, and so that a file
// made to break its decoder breaks this process and no other. Output is complete only when the exit
// code is 0; otherwise one line on standard error says why.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "services/common/data/parquet/parquet_rows.h"

namespace rollcall {
namespace {

constexpr int kBadFile = 1;
constexpr int kBadArguments = 2;
constexpr int kNobodyReads = 3;

// What the library itself takes beside the buffers that it counts.
constexpr rlim_t kProcessBytes = rlim_t{2} << 30;
constexpr rlim_t kProcessCpuSeconds = 3600;

void LimitProcess(const ParquetLimits& limits) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  const rlim_t bytes = static_cast<rlim_t>(limits.max_buffer_bytes) + kProcessBytes;
  const rlimit memory{bytes, bytes};
  setrlimit(RLIMIT_AS, &memory);
#endif
  const rlimit cpu{kProcessCpuSeconds, kProcessCpuSeconds};
  setrlimit(RLIMIT_CPU, &cpu);
  const rlimit core{0, 0};
  setrlimit(RLIMIT_CORE, &core);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
}

int Main(int argc, char** argv) {
  CLI::App app("Prints the rows of a Parquet file, one JSON object a line.", "rollcall-parquet");
  std::string path;
  ParquetLimits limits;
  app.add_option("FILE", path, "Parquet file")->required();
  app.add_option("--max-rows", limits.max_rows, "Stop after so many rows; 0 prints all");
  app.add_option("--max-row-bytes", limits.value.max_row_bytes, "Longest row");
  app.add_option("--max-text-bytes", limits.max_text_bytes, "Most text of all rows");
  app.add_option("--max-buffer-bytes", limits.max_buffer_bytes, "Most memory of decoded data");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kBadArguments;
  }
  LimitProcess(limits);
  const Status status = ReadParquetRows(path, limits, [](std::string_view json) {
    const bool written = std::fwrite(json.data(), 1, json.size(), stdout) == json.size() &&
                         std::fputc('\n', stdout) != EOF;
    return written ? OkStatus() : Cancelled("nobody reads");
  });
  if (status.code() == StatusCode::kCancelled) return kNobodyReads;
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", Message(status).c_str());
    return kBadFile;
  }
  return std::fflush(stdout) == 0 ? 0 : kNobodyReads;
}

}  // namespace
}  // namespace rollcall

int main(int argc, char** argv) { return rollcall::Main(argc, argv); }
