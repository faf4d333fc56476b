// Names and time helpers that every folder of the coordinator shares.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "rollcall/v1/common.pb.h"

namespace rollcall::coordinator {

// Jobs are numbered from 1 in order of submission; "j000001" is number 1.
using JobNumber = int64_t;

std::string JobId(JobNumber number);
// 0 when the text is no job id.
JobNumber ParseJobId(std::string_view id);

// Names a sample for good; v1::SampleKey in plain form. An evaluation sample's iteration is the
// policy version that is evaluated.
struct SampleId {
  JobNumber job = 0;
  v1::SamplePurpose purpose = v1::SAMPLE_PURPOSE_TRAIN;
  int64_t iteration = 0;
  int64_t prompt_id = 0;
  int32_t sample_index = 0;

  auto operator<=>(const SampleId&) const = default;
};

v1::SampleKey ToKey(const SampleId& id);
SampleId FromKey(const v1::SampleKey& key);

absl::Duration FromProto(const google::protobuf::Duration& duration);
google::protobuf::Duration ToProto(absl::Duration duration);
google::protobuf::Timestamp ToProto(absl::Time time);
absl::Time FromProto(const google::protobuf::Timestamp& timestamp);
double UnixSeconds(absl::Time time);

}  // namespace rollcall::coordinator
