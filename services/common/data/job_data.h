// What a job file says of its data, in the terms of the data reader.
#pragma once

#include <string>
#include <vector>

#include "rollcall/v1/job.pb.h"
#include "services/base/status/status.h"
#include "services/common/data/example.h"

namespace rollcall {

ExampleKind KindFromSpec(v1::DataSpec::Kind kind);
ColumnNames ColumnsFromSpec(const v1::ColumnSpec& columns);

// The files of data.path and of evaluate.path, as FindDataFiles; errors begin with the key.
StatusOr<std::vector<std::string>> TrainingFiles(const v1::JobSpec& spec);
StatusOr<std::vector<std::string>> EvaluationFiles(const v1::JobSpec& spec);

// "data/a.jsonl", "data/a.jsonl and 3 more": for messages.
std::string FilesText(const std::vector<std::string>& files);

}  // namespace rollcall
