#include "services/common/config/job_file.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "services/common/config/spec_checks.h"
#include "services/common/config/spec_reader.h"
#include "services/common/config/yaml_tree.h"
#include "services/common/storage/files.h"

namespace rollcall {
namespace {

constexpr size_t kMaxProblemsShown = 50;

std::string ParentPath(const std::string& path) {
  const size_t cut = path.find_last_of(".[");
  return cut == std::string::npos ? "" : path.substr(0, cut);
}

// Place of the setting, or of the nearest section around it that the file has.
SourcePlace PlaceOf(const SpecReading& reading, const std::string& origin, std::string path) {
  for (; !path.empty(); path = ParentPath(path)) {
    if (const auto found = reading.places.find(path); found != reading.places.end()) {
      return found->second;
    }
  }
  return {origin, 0};
}

// A path is broken when it, or a part of it or something around it, could not be read.
bool Touches(const std::set<std::string>& broken, const std::string& path) {
  for (const std::string& other : broken) {
    const std::string& longer = other.size() > path.size() ? other : path;
    const std::string& shorter = other.size() > path.size() ? path : other;
    if (longer.compare(0, shorter.size(), shorter) == 0 &&
        (longer.size() == shorter.size() || longer[shorter.size()] == '.' ||
         longer[shorter.size()] == '[')) {
      return true;
    }
  }
  return false;
}

// Keeps the problems that are no consequence of a value that could not be read or is itself wrong.
void AddProblems(const std::vector<SpecProblem>& found, const std::string& origin,
                 std::set<std::string>* broken, SpecReading* reading) {
  std::set<std::string> more_broken;
  for (const SpecProblem& problem : found) {
    bool is_consequence = Touches(*broken, problem.path);
    for (const std::string& path : problem.depends_on) {
      is_consequence = is_consequence || Touches(*broken, path);
    }
    if (is_consequence) continue;
    reading->problems.push_back({PlaceOf(*reading, origin, problem.path), problem});
    more_broken.insert(problem.path);
  }
  broken->merge(more_broken);
}

std::string ProblemsText(const std::vector<std::string>& lines) {
  std::string text;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i == kMaxProblemsShown) {
      text += "\nand " + std::to_string(lines.size() - i) + " more";
      break;
    }
    if (i > 0) text += "\n";
    text += lines[i];
  }
  return text;
}

void MakeAbsolute(const std::string& base_dir, std::string* path) {
  *path = (std::filesystem::path(base_dir) / *path).lexically_normal().string();
}

}  // namespace

StatusOr<v1::JobSpec> ParseJobFile(std::string_view yaml, const std::string& origin,
                                   const std::string& base_dir,
                                   const std::vector<std::string>& overrides) {
  ROLLCALL_ASSIGN_OR_RETURN(YamlNode root, ParseYaml(yaml, origin));
  for (const std::string& override_text : overrides) {
    ROLLCALL_RETURN_IF_ERROR(ApplyOverride(override_text, &root));
  }
  if (root.kind != YamlNode::Kind::kMap && root.kind != YamlNode::Kind::kNull) {
    return InvalidArgument(root.place.Text() + ": a job file is a mapping of sections, got " +
                           YamlKindText(root) + "; `rollcall schema` lists the sections");
  }
  SpecReading reading = ReadSpec(root);
  std::set<std::string> broken;
  for (const LocatedProblem& located : reading.problems) broken.insert(located.problem.path);

  AddProblems(ResolveSpec(&reading.spec), origin, &broken, &reading);
  AddProblems(CheckSettings(reading.spec), origin, &broken, &reading);
  AddProblems(CheckMethod(reading.spec), origin, &broken, &reading);
  AddProblems(CheckArithmetic(reading.spec), origin, &broken, &reading);

  if (!reading.problems.empty()) {
    // In the order of the file; what has no line comes last.
    std::stable_sort(reading.problems.begin(), reading.problems.end(),
                     [](const LocatedProblem& a, const LocatedProblem& b) {
                       return static_cast<unsigned>(a.place.line - 1) <
                              static_cast<unsigned>(b.place.line - 1);
                     });
    std::vector<std::string> lines;
    lines.reserve(reading.problems.size());
    for (const LocatedProblem& located : reading.problems) {
      lines.push_back(located.place.Text() + ": " + located.problem.path + ": " +
                      located.problem.message);
    }
    return InvalidArgument(ProblemsText(lines));
  }

  v1::JobSpec& spec = reading.spec;
  MakeAbsolute(base_dir, spec.mutable_model()->mutable_path());
  if (!spec.model().adapter().empty()) {
    MakeAbsolute(base_dir, spec.mutable_model()->mutable_adapter());
  }
  for (std::string& path : *spec.mutable_data()->mutable_path()) MakeAbsolute(base_dir, &path);
  MakeAbsolute(base_dir, spec.mutable_run()->mutable_output_dir());
  if (spec.evaluate().has_path()) MakeAbsolute(base_dir, spec.mutable_evaluate()->mutable_path());
  return std::move(spec);
}

StatusOr<v1::JobSpec> LoadJobFile(const std::string& path,
                                  const std::vector<std::string>& overrides) {
  ROLLCALL_ASSIGN_OR_RETURN(const std::string yaml, ReadFile(path, YamlLimits().max_bytes));
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) return Internal(path + ": " + error.message());
  return ParseJobFile(yaml, path, absolute.parent_path().string(), overrides);
}

Status ValidateJobSpec(const v1::JobSpec& spec) {
  std::vector<std::string> lines;
  for (const SpecProblem& problem : CheckSpec(spec)) {
    lines.push_back(problem.path + ": " + problem.message);
  }
  if (lines.empty()) return OkStatus();
  return InvalidArgument(ProblemsText(lines));
}

}  // namespace rollcall
