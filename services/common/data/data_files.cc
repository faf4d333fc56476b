#include "services/common/data/data_files.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>

#include "services/common/data/line_splitter.h"
#include "services/common/data/parquet_program.h"

namespace rollcall {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxFileBytes = uint64_t{8} << 30;
constexpr size_t kMaxFiles = 10'000;
constexpr size_t kPieceBytes = 1 << 20;
// A row, the white space around it and a line end.
constexpr size_t kMaxLineBytes = kMaxRowBytes + 4096;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kParquetMagic = "PAR1";

// What data sets call their splits, all names of one split in one row.
constexpr std::array<std::array<std::string_view, 4>, 3> kSplitNames = {{
    {"train", "training", "", ""},
    {"validation", "valid", "val", "dev"},
    {"test", "testing", "eval", "evaluation"},
}};

std::set<std::string> WordsOf(const std::string& file_name) {
  std::set<std::string> words;
  std::string word;
  for (const char c : file_name + ".") {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!word.empty()) {
      words.insert(std::move(word));
      word.clear();
    }
  }
  return words;
}

bool IsOfSplit(const std::string& path, const std::string& split) {
  const std::set<std::string> words = WordsOf(fs::path(path).filename().string());
  if (words.contains(split)) return true;
  for (const auto& names : kSplitNames) {
    if (std::find(names.begin(), names.end(), split) == names.end()) continue;
    for (const std::string_view name : names) {
      if (!name.empty() && words.contains(std::string(name))) return true;
    }
  }
  return false;
}

// "train and test" when the names of the files speak of more than one.
std::string SeveralSplits(const std::vector<std::string>& files) {
  std::string found;
  int count = 0;
  for (const auto& names : kSplitNames) {
    const std::string split(names[0]);
    if (std::any_of(files.begin(), files.end(),
                    [&](const std::string& file) { return IsOfSplit(file, split); })) {
      found += (count++ > 0 ? " and " : "") + split;
    }
  }
  return count > 1 ? found : "";
}

bool IsPattern(const std::string& path) { return path.find_first_of("*?[") != std::string::npos; }

StatusOr<std::vector<std::string>> FilesOfPattern(const std::string& pattern) {
  glob_t found{};
  // Unsafe only where it expands "~", which it is not asked to.
  const int error =
      glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);  // NOLINT(concurrency-mt-unsafe)
  std::vector<std::string> files;
  for (size_t i = 0; i < found.gl_pathc && files.size() <= kMaxFiles; ++i) {
    std::error_code ignored;
    if (fs::is_regular_file(found.gl_pathv[i], ignored)) files.emplace_back(found.gl_pathv[i]);
  }
  globfree(&found);
  if (error != 0 && error != GLOB_NOMATCH) {
    return InvalidArgument(pattern + ": the pattern cannot be read");
  }
  if (files.empty()) return NotFound(pattern + ": no file matches");
  std::sort(files.begin(), files.end());
  return files;
}

StatusOr<std::vector<std::string>> FilesOfDirectory(const std::string& directory) {
  std::vector<std::string> files;
  for (const fs::path& place : {fs::path(directory), fs::path(directory) / "data"}) {
    std::error_code error;
    for (fs::directory_iterator it(place, error), end; !error && it != end; it.increment(error)) {
      const std::string extension = it->path().extension().string();
      std::error_code ignored;
      if ((extension == ".jsonl" || extension == ".ndjson" || extension == ".parquet") &&
          it->is_regular_file(ignored) && files.size() <= kMaxFiles) {
        files.push_back(it->path().string());
      }
    }
    if (!files.empty()) break;
  }
  if (files.empty()) {
    return NotFound(directory + ": the directory has no .jsonl, .ndjson or .parquet files");
  }
  std::sort(files.begin(), files.end());
  return files;
}

StatusOr<std::vector<std::string>> FilesOf(const std::string& path, const std::string& split) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const bool is_directory = fs::is_directory(status);
  if (!is_directory && (fs::exists(status) || !IsPattern(path))) {
    return std::vector<std::string>{path};
  }
  StatusOr<std::vector<std::string>> found =
      is_directory ? FilesOfDirectory(path) : FilesOfPattern(path);
  if (!found.ok()) return found;
  if (split.empty()) {
    const std::string several = is_directory ? SeveralSplits(*found) : "";
    if (!several.empty()) {
      return InvalidArgument(path + ": the directory has files of the splits " + several +
                             "; say which with data.split, or name the files");
    }
    return found;
  }
  std::erase_if(*found, [&](const std::string& file) { return !IsOfSplit(file, split); });
  if (found->empty()) {
    return NotFound(path + ": no file of split '" + split + "': its name would have that word");
  }
  return found;
}

std::string_view Trim(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r";
  const size_t begin = line.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return line.substr(begin, line.find_last_not_of(kBlank) - begin + 1);
}

// Counts rows over all files, and parses and hands on each.
class RowReader {
 public:
  RowReader(const ReadRowsOptions& options, const RowVisitor& visit)
      : options_(options), visit_(visit) {}

  int64_t num_rows() const { return num_rows_; }
  bool full() const { return options_.max_rows > 0 && num_rows_ >= options_.max_rows; }

  LineSplitter JsonLines(const std::string& origin) {
    return {kMaxLineBytes, [this, &origin](int64_t number, std::string_view line) {
              if (number == 1 && line.starts_with(kByteOrderMark)) {
                line.remove_prefix(kByteOrderMark.size());
              }
              return Line(line, origin + ":" + std::to_string(number));
            }};
  }

  Status File(const std::string& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) return NotFound(path + ": no such file");
    if (fs::is_directory(status)) return InvalidArgument(path + ": a directory, not a file");
    // A pipe would be waited for.
    if (!fs::is_regular_file(status)) return InvalidArgument(path + ": not a regular file");
    std::ifstream input(path, std::ios::binary);
    std::array<char, kParquetMagic.size()> magic{};
    input.read(magic.data(), magic.size());
    const std::string_view start(magic.data(), static_cast<size_t>(input.gcount()));
    if (!input.is_open() || input.bad()) {
      return MakeStatus(StatusCode::kPermissionDenied, path + ": cannot be read");
    }
    if (start == kParquetMagic) return ParquetFile(path);
    if (fs::path(path).extension() == ".parquet") {
      return InvalidArgument(path + ": not a Parquet file: it does not begin with PAR1");
    }
    if (start.starts_with("\x1F\x8B")) {
      return InvalidArgument(path + ": compressed with gzip; decompress it, or store Parquet");
    }
    const uint64_t size = fs::file_size(path, error);
    if (!error && size > kMaxFileBytes) {
      return ResourceExhausted(path + ": the file has " + std::to_string(size) +
                               " bytes, the limit is " + std::to_string(kMaxFileBytes));
    }
    input.clear();
    input.seekg(0);
    LineSplitter lines = JsonLines(path);
    std::string piece(kPieceBytes, '\0');
    uint64_t total = 0;
    while (!lines.ended() && total <= kMaxFileBytes) {
      input.read(piece.data(), static_cast<std::streamsize>(piece.size()));
      const auto count = static_cast<size_t>(input.gcount());
      if (count == 0) break;
      total += count;
      ROLLCALL_RETURN_IF_ERROR(InFile(path, lines.Add({piece.data(), count})));
    }
    if (input.bad()) return DataLoss(path + ": reading stopped with an error");
    return InFile(path, lines.Finish());
  }

  // Errors of rows name the file already.
  static Status InFile(const std::string& path, const Status& status) {
    return Message(status).starts_with(path) ? status : Annotate(status, path);
  }

 private:
  Status ParquetFile(const std::string& path) {
    LineSplitter lines(kMaxLineBytes, [&](int64_t number, std::string_view line) {
      return Line(line, path + ": row " + std::to_string(number));
    });
    const int64_t wanted = options_.max_rows > 0 ? options_.max_rows - num_rows_ : 0;
    const Status status = RunParquetProgram(
        path,
        {.program = options_.parquet_program, .max_rows = wanted, .max_row_bytes = kMaxRowBytes},
        [&](std::string_view piece) { return lines.Add(piece); });
    ROLLCALL_RETURN_IF_ERROR(InFile(path, status));
    return InFile(path, lines.Finish());
  }

  StatusOr<bool> Line(std::string_view line, const std::string& place) {
    line = Trim(line);
    if (line.empty()) return true;
    const StatusOr<RowJson> value = ParseRow(line);
    if (!value.ok()) {
      const bool is_array = num_rows_ == 0 && line.starts_with('[');
      return Annotate(
          value.status(),
          is_array ? place + ": one JSON object a line is wanted, not one array" : place);
    }
    const Status visited = visit_({*value, line, place});
    if (!visited.ok()) return Annotate(visited, place);
    ++num_rows_;
    return !full();
  }

  const ReadRowsOptions& options_;
  const RowVisitor& visit_;
  int64_t num_rows_ = 0;
};

Status NoRows(const std::string& origin) {
  return InvalidArgument(origin + ": no rows; expected one JSON object a line");
}

}  // namespace

StatusOr<std::vector<std::string>> FindDataFiles(std::span<const std::string> paths,
                                                 const std::string& split) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    ROLLCALL_ASSIGN_OR_RETURN(std::vector<std::string> more, FilesOf(path, split));
    files.insert(files.end(), more.begin(), more.end());
    if (files.size() > kMaxFiles) {
      return ResourceExhausted(path + ": more than " + std::to_string(kMaxFiles) + " files");
    }
  }
  std::set<std::string> seen;
  for (const std::string& file : files) {
    if (!seen.insert(file).second) return InvalidArgument(file + ": named twice");
  }
  return files;
}

Status ReadRows(std::span<const std::string> files, const ReadRowsOptions& options,
                const RowVisitor& visit) {
  RowReader reader(options, visit);
  for (const std::string& file : files) {
    if (reader.full()) break;
    const int64_t before = reader.num_rows();
    ROLLCALL_RETURN_IF_ERROR(reader.File(file));
    if (reader.num_rows() == before) return NoRows(file);
  }
  return OkStatus();
}

Status ReadRowsFromText(std::string_view text, const std::string& origin, const RowVisitor& visit) {
  const ReadRowsOptions options;
  RowReader reader(options, visit);
  LineSplitter lines = reader.JsonLines(origin);
  Status status = lines.Add(text);
  if (status.ok()) status = lines.Finish();
  ROLLCALL_RETURN_IF_ERROR(RowReader::InFile(origin, status));
  return reader.num_rows() > 0 ? OkStatus() : NoRows(origin);
}

}  // namespace rollcall
