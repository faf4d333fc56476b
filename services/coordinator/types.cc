#include "services/coordinator/types.h"

#include <charconv>
#include <cstdio>

namespace rollcall::coordinator {

std::string JobId(JobNumber number) {
  char text[32];
  std::snprintf(text, sizeof(text), "j%06lld", static_cast<long long>(number));
  return text;
}

JobNumber ParseJobId(std::string_view id) {
  if (id.size() < 2 || id.size() > 19 || id[0] != 'j') return 0;
  JobNumber number = 0;
  const char* end = id.data() + id.size();
  const auto [rest, error] = std::from_chars(id.data() + 1, end, number);
  if (error != std::errc() || rest != end || number < 1) return 0;
  return number;
}

v1::SampleKey ToKey(const SampleId& id) {
  v1::SampleKey key;
  key.set_job_id(JobId(id.job));
  key.set_iteration(id.iteration);
  key.set_prompt_id(id.prompt_id);
  key.set_sample_index(id.sample_index);
  key.set_purpose(id.purpose);
  return key;
}

SampleId FromKey(const v1::SampleKey& key) {
  return {ParseJobId(key.job_id()), key.purpose(), key.iteration(), key.prompt_id(),
          key.sample_index()};
}

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

google::protobuf::Duration ToProto(absl::Duration duration) {
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  google::protobuf::Duration proto;
  proto.set_seconds(nanos / 1'000'000'000);
  proto.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  return proto;
}

google::protobuf::Timestamp ToProto(absl::Time time) {
  const int64_t nanos = absl::ToUnixNanos(time);
  google::protobuf::Timestamp proto;
  proto.set_seconds(nanos / 1'000'000'000);
  proto.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  return proto;
}

absl::Time FromProto(const google::protobuf::Timestamp& timestamp) {
  return absl::FromUnixSeconds(timestamp.seconds()) + absl::Nanoseconds(timestamp.nanos());
}

double UnixSeconds(absl::Time time) { return static_cast<double>(absl::ToUnixMicros(time)) / 1e6; }

}  // namespace rollcall::coordinator
